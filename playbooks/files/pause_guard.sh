# SPDX-License-Identifier: GPL-3.0-or-later
# Ends a pause by itself when the play doesn't: it may have been killed, or have lost its way to the host.
# The file lies in /run, and its state beside it; a rename decides who goes on, the play or this.
#
#   arm SECONDS FILE NOTE PAGE APP [UNIT...]   put the application back after SECONDS (as below), unless it is claimed; then .expired is there
#   claim                                      the play switches the application now; fails if the pause has ended
#   disarm                                     the play has put everything back
#
# It ends what still reads FILE for the move, leaves NOTE for the next run, starts APP and those of the UNITs that are
# enabled, and removes PAGE. Each of the four may be empty: a proxy on another host has the page alone.
set -eu
base=${0%.sh}
unit=${base##*/}
action=$1
shift

readers() {
    find /proc/[0-9]*/fd -lname "$1" 2>/dev/null | cut -d/ -f3 | sort -u | while read -r pid; do
        case $(stat -c %u "/proc/$pid" 2>/dev/null):$(cat "/proc/$pid/comm" 2>/dev/null) in 0:python*) echo "$pid" ;; esac
    done
}

case $action in
arm)
    seconds=$1 note=$3
    shift
    systemctl stop "$unit.timer" "$unit.service" 2>/dev/null || :
    rm -f "$base.claimed" "$base.expired"
    [ -z "$note" ] || rm -f "$note"
    : >"$base.armed"
    systemd-run --quiet --collect --unit="$unit" --on-active="$seconds" --timer-property=AccuracySec=100ms \
        sh "$0" expire "$@"
    ;;
claim)
    mv "$base.armed" "$base.claimed" 2>/dev/null
    systemctl stop "$unit.timer" 2>/dev/null || :
    ;;
disarm)
    rm -f "$base.armed"
    systemctl stop "$unit.timer" 2>/dev/null || :
    ;;
expire)
    file=$1 note=$2 page=$3 app=$4
    shift 4
    mv "$base.armed" "$base.expired" 2>/dev/null || exit 0
    echo "The pause has lasted too long: putting the application back"
    if [ -n "$note" ]; then
        mkdir -p "${note%/*}"
        : >"$note"
    fi
    if [ -n "$file" ]; then
        # In rollback-journal mode a reader lets nobody write.
        for signal in TERM KILL; do
            found=$(readers "$(realpath "$file")")
            [ -z "$found" ] || kill -s "$signal" $found 2>/dev/null || :
            tries=0
            while [ "$tries" -lt 50 ] && [ -n "$(readers "$(realpath "$file")")" ]; do
                tries=$((tries + 1))
                sleep 0.2
            done
        done
    fi
    [ -z "$app" ] || systemctl start "$app.socket" "$app.service"
    for one; do
        ! systemctl is-enabled -q "$one" || systemctl start "$one" || echo "$one does not start"
    done
    [ -z "$page" ] || rm -f "$page"
    ;;
esac
