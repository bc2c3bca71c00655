# SPDX-License-Identifier: Apache-2.0
# bash completion of barrel-p2p: commands, options, directories, and the nodes whose keys are trusted.

_barrel_p2p() {
    local -a all words=() where=() finding=()
    local cur='' prev='' options i

    # Not COMP_WORDS, which is split at the "@" of a node's name.
    read -ra all <<<"${COMP_LINE:0:COMP_POINT}"
    if [[ ${COMP_LINE:0:COMP_POINT} != *[[:blank:]] ]]; then
        cur=${all[-1]}
        unset 'all[-1]'
    fi
    prev=${all[-1]}
    COMPREPLY=()

    # The words of the command itself, and the options that say where.
    for ((i = 1; i < ${#all[@]}; i++)); do
        case ${all[i]} in
        -d | --dir | -n | --node)
            where+=("${all[i]}" "${all[i + 1]}")
            ((i++))
            ;;
        --dir=* | --node=*) where+=("${all[i]}") ;;
        -c | --config | --static | --discovery-dir | --runtime-dir | --dns-domain | --dns-servers | --dns-port)
            finding+=("${all[i]}" "${all[i + 1]}")
            ((i++))
            ;;
        -k | --key | -t | --timeout | -N | --name | -C | --cookie | --trust | --relay | --relay-secret) ((i++)) ;;
        -?*) ;;
        *) words+=("${all[i]}") ;;
        esac
    done

    case $prev in
    -c | --config | --relay-secret)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    -d | --dir | --discovery-dir | --runtime-dir)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --trust)
        mapfile -t COMPREPLY < <(compgen -W 'tofu strict' -- "$cur")
        return
        ;;
    --relay)
        compopt -o nospace 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -W 'udp:// socks5://' -- "$cur")
        if [[ $COMP_WORDBREAKS == *:* && $cur == *:* ]]; then
            COMPREPLY=("${COMPREPLY[@]#"${cur%:*}:"}")
        fi
        return
        ;;
    -n | --node | -k | --key | -t | --timeout | --static | --dns-domain | --dns-servers | --dns-port | \
        -N | --name | -C | --cookie)
        return
        ;;
    esac

    case "${words[*]:0:2}" in
    keygen | 'cert renew') options='--dir --node --json --help --force' ;;
    'trust add') options='--dir --node --json --help --force --key' ;;
    trust) options='list add remove show --help' ;;
    cert) options='show renew --help' ;;
    config) options='check --help' ;;
    'config check') options='--json --help' ;;
    ping* | call* | send* | peers*)
        options='--config --static --discovery-dir --runtime-dir --dns-domain --dns-servers --dns-port --timeout'
        options+=' --dir --name --cookie --trust --relay --relay-secret --json --help'
        ;;
    resolve* | names)
        options='--config --static --discovery-dir --runtime-dir --dns-domain --dns-servers --dns-port --timeout'
        options+=' --node --json --help'
        ;;
    help) options='keygen fingerprint trust cert resolve names config ping call send peers' ;;
    'help config') options='check' ;;
    'help trust') options='list add remove show' ;;
    'help cert') options='show renew' ;;
    '') options='keygen fingerprint trust cert resolve names config ping call send peers help --help --version' ;;
    *) options='--dir --node --json --help' ;;
    esac

    case "${words[*]:0:2}:${#words[@]}:$cur" in
    *:*:-?*) ;;
    'trust remove:2:'* | 'trust show:2:'*)
        options=$("${all[0]}" trust list "${where[@]}" 2>/dev/null | sed 's/ .*//')
        ;;
    resolve:1:* | ping:1:* | call:1:* | send:1:* | peers:1:*)
        options=$("${all[0]}" names "${finding[@]}" --timeout 500 2>/dev/null | sed 's/ .*//')
        ;;
    'fingerprint:1:'* | 'trust add:3:'* | 'cert show:2:'* | 'config check:2:'*)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
    if [[ $cur == *@* && $COMP_WORDBREAKS == *@* ]]; then # bash replaces what is behind the "@"
        COMPREPLY=("${COMPREPLY[@]#"${cur%@*}@"}")
    fi
}

complete -F _barrel_p2p barrel-p2p
