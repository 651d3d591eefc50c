# bash completion for kvctl: commands and options are those that its help names
_kvctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} kvctl=${COMP_WORDS[0]}
    local word commands first= second= options

    case $prev in
    --output | -o) mapfile -t COMPREPLY < <(compgen -W "text json value" -- "$cur"); return ;;
    --kinds) mapfile -t COMPREPLY < <(compgen -W "put delete expire" -- "$cur"); return ;;
    --aggregate) mapfile -t COMPREPLY < <(compgen -W "sum min max" -- "$cur"); return ;;
    --format) mapfile -t COMPREPLY < <(compgen -W "yaml json" -- "$cur"); return ;;
    --on-change) mapfile -t COMPREPLY < <(compgen -W "restart signal:HUP none" -- "$cur"); return ;;
    --cache) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    --exec | --check) mapfile -t COMPREPLY < <(compgen -c -- "$cur"); return ;;
    --debounce | --grace | --endpoints | -e | --timeout | -t | --if-rev | --if-value | --at | --prefix | --from | --to | --limit | --min | --max | \
        --initial | --cursor | --offset | --weights | --rate | --burst | --permits | --from-rev | --to-rev | --ttl | --lease | --id | --count | \
        --pattern | --last | --for | --interval) return ;;
    esac
    # "  name [subcommand]   what it does"
    commands=$("$kvctl" help 2>/dev/null | sed -n 's/^  \([a-z]\w*\( [a-z]\w*\)\?\)  .*/\1/p')
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        -*) ;;
        *) if [ -z "$first" ]; then first=$word; elif [ -z "$second" ]; then second=$word; fi ;;
        esac
    done
    # To zrange and zrank it says "from the greatest".
    [[ $first\ $prev != @(watch|subscribe)\ --rev ]] || return
    if [[ $cur == -* ]]; then
        # shellcheck disable=SC2086 # a command of two words is two words
        options=$("$kvctl" help $first 2>/dev/null | sed -n 's/^  \(-.,\|   \) \(--[a-z-]*\) .*/\2/p')
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi
    case $first in
    "" | help) mapfile -t COMPREPLY < <(compgen -W "$(cut -d ' ' -f 1 <<<"$commands")" -- "$cur") ;;
    put | append | getset) [ -z "$second" ] || mapfile -t COMPREPLY < <(compgen -f -P @ -- "${cur#@}") ;;
    txn | import | render) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    *) [ -n "$second" ] ||
        mapfile -t COMPREPLY < <(compgen -W "$(sed -n "s/^$first \(.*\)/\1/p" <<<"$commands")" -- "$cur") ;;
    esac
    # Each word once.
    [ ${#COMPREPLY[@]} -eq 0 ] || mapfile -t COMPREPLY < <(printf '%s\n' "${COMPREPLY[@]}" | sort -u)
}
complete -F _kvctl kvctl
