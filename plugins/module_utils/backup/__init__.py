# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup, restore and drill of a PostgreSQL cluster: the program golive-backup.

The role ``backup`` installs this package on the host; it needs nothing but Python, psycopg2 and
PostgreSQL's and pgBackRest's own programs.
"""
