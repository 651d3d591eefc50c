# bash completion for kvctl
_kvctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local word first= second= options

    case $prev in
    --output | -o) mapfile -t COMPREPLY < <(compgen -W "text json value" -- "$cur"); return ;;
    --endpoints | -e | --timeout | -t | --if-rev | --if-value | --at | --rev | --prefix | --from | --to | --limit)
        return ;;
    esac
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        -*) ;;
        config | member | leader | help) [ -z "$first" ] && first=$word ;;
        *) if [ -z "$first" ]; then first=$word; elif [ -z "$second" ]; then second=$word; fi ;;
        esac
    done
    if [[ $cur == -* ]]; then
        options="--endpoints --output --timeout --serializable --help"
        case $first in
        put) options+=" --if-absent --if-present --if-rev --if-value --prev" ;;
        get | strlen | getrange | exists) options+=" --at" ;;
        del) options+=" --prefix --from --to --all --atomic --prev" ;;
        range) options+=" --prefix --from --to --all --limit --keys-only --count-only --desc --at" ;;
        ls) options+=" --prefix --from --to --all --limit --count-only --desc --at" ;;
        count) options+=" --prefix --from --to --all --at" ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi
    case $first in
    "" | help)
        mapfile -t COMPREPLY < <(compgen -W "put get del range ls count append getset getdel strlen getrange \
            setrange exists config status health member leader snapshot help version" -- "$cur") ;;
    config) [ -n "$second" ] || mapfile -t COMPREPLY < <(compgen -W "list get set" -- "$cur") ;;
    member) [ -n "$second" ] || mapfile -t COMPREPLY < <(compgen -W "list" -- "$cur") ;;
    snapshot) [ -n "$second" ] || mapfile -t COMPREPLY < <(compgen -W "take" -- "$cur") ;;
    leader) [ -n "$second" ] || mapfile -t COMPREPLY < <(compgen -W "transfer" -- "$cur") ;;
    put | append | getset) [ -z "$second" ] || mapfile -t COMPREPLY < <(compgen -f -P @ -- "${cur#@}") ;;
    esac
}
complete -F _kvctl kvctl
