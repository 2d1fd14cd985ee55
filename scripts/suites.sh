# Packages of other Debian suites and architectures, fetched and unpacked without installing anything; sourced, after lib.sh.

archive() {
    local uri='' sources=/etc/apt/sources.list.d/debian.sources
    [ ! -e "$sources" ] || uri=$(awk '$1 == "URIs:" { print $2; exit }' "$sources")
    if [ -z "$uri" ] && [ -e /etc/apt/sources.list ]; then
        uri=$(awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) { print $i; exit } }' /etc/apt/sources.list)
    fi
    if [ -z "$uri" ]; then
        echo "$0: apt here names no Debian archive (in debian.sources or sources.list)" >&2
        return 1
    fi
    echo "$uri"
}

# configure_apt FOLDER SUITES ARCHITECTURE [TYPES]: an apt that knows these suites and no installed package, so that it fetches the
# C library too. The host's settings stay in force (a proxy, say), but not its hooks, which would act on the host, nor its
# choices among suites. It runs as whoever runs this: apt's own user may not be allowed into the folder the repository is in.
configure_apt() {
    local folder=$1 suites=$2 architecture=$3 uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg valid=true
    uri=$(archive)
    case $suites in *sid* | *experimental*) valid=false ;; esac
    mkdir -p "$folder/state/lists/partial" "$folder/cache/archives/partial"
    : >"$folder/status"
    printf '%s\n' "Types: ${4:-deb}" "URIs: $uri" "Suites: $suites" 'Components: main' "Architectures: $architecture" \
        "Signed-By: $keyring" >"$folder/suite.sources"
    cat >"$folder/apt.conf" <<CONF
#clear APT::Update;
#clear DPkg;
#clear APT::Default-Release;
#clear APT::Architectures;
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "$(id -un)";
APT::Update::Error-Mode "any";
Acquire::Check-Valid-Until "$valid";
Acquire::Languages "none";
Dir::State "$folder/state";
Dir::State::status "$folder/status";
Dir::Cache "$folder/cache";
Dir::Etc::sourcelist "$folder/suite.sources";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
CONF
}

# What programs depend on but do not need in order to run.
needless() {
    case $1 in
        debconf_* | dpkg_* | gcc-*-base_* | libc-gconv-modules-extra_* | media-types_* | netbase_* | perl-base_* | \
            readline-common_* | tar_* | tzdata_*) return 0 ;;
    esac
    return 1
}

# unpack TREE FOLDER: the packages of FOLDER as a tree for chroot. Documentation and translations are left out, and the C
# library's character sets, which Python does not use.
unpack() {
    local tree=$1 debs=$2 folder deb
    # Older packages have files in /lib, newer ones in /usr/lib; with these links both fit.
    for folder in bin lib lib64 sbin; do
        mkdir -p "$tree/usr/$folder"
        ln -s "usr/$folder" "$tree/$folder"
    done
    for deb in "$debs"/*.deb; do
        ! needless "${deb##*/}" || continue
        # dpkg -x would put a folder where the link is.
        dpkg --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$tree"
        echo "${deb##*/}" >>"$tree/.packages"
    done
    rm -rf "${tree:?}"/usr/share "${tree:?}"/usr/lib/*/gconv
    mkdir -p "$tree/dev" "$tree/proc" "$tree/tmp"
    chmod 1777 "$tree/tmp"
}
