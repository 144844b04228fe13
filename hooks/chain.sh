folder=${0%/*}
kept="$folder/$name.before-forge"
here="$name $PWD"
case $FORGE_HOOK_RUNS in
"$here")
    # Called by the kept hook. Either it starts "$0" once more, as husky 8 does, and means itself; or a hook
    # manager has kept *this* file in its turn, as pre-commit does, and calls it: once is enough.
    FORGE_HOOK_RUNS="$here again"
    export FORGE_HOOK_RUNS
    if [ "${0##*/}" = "$name" ] && [ -x "$kept" ]; then exec "$kept" "$@"; fi
    exit 0
    ;;
"$here again") exit 0 ;;
esac

# Whether there is a kept hook that does not run already, above us. pre-commit that is installed once more moves
# this file to NAME.legacy and calls it, while the kept hook is pre-commit itself.
kept_is_due() {
    [ -x "$kept" ] || return 1
    [ "${0##*/}" != "$name" ] || return 0
    cmp -s "$kept" "$folder/$name" && return 1
    [ -z "$PRE_COMMIT_RUNNING_LEGACY" ] || ! grep -q 'pre-commit\.com' "$kept"
}

# The kept hook as if it stood in our place: husky's looks at the name that it was started by.
run_kept() (
    FORGE_HOOK_RUNS=$here
    export FORGE_HOOK_RUNS
    IFS= read -r first <"$kept" || :
    interpreter=${first#\#!}
    case "$interpreter " in
    "$first "*) ;; # no #! line
    */sh\ * | *\ sh\ * | */bash\ * | *\ bash\ * | */dash\ * | *\ dash\ *)
        exec $interpreter -c 'forge_kept=$1; shift; . "$forge_kept"' "$folder/$name" "$kept" "$@"
        ;;
    esac
    exec "$kept" "$@"
)
