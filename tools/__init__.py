# SPDX-License-Identifier: GPL-3.0-or-later
"""Control-node tooling of golive.webstack: what bin/demo and bin/test are made of."""
