# To be sourced: packages of Debian 13 on an older Debian, unpacked beside what is installed.

# trixie_unpack FOLDER PACKAGE...: into FOLDER/root. The packages they depend on are to be named as well.
trixie_unpack() {
    local folder=$1 mirror options
    shift
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/root"
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\{0,1\}\(http[^ ]*\).*/\2/p' | grep '/debian/*$' | sed -n 1p || true)
    if [ -z "$mirror" ]; then
        echo "trixie: no mirror of Debian is named in /etc/apt" >&2
        return 1
    fi
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$folder/sources.list"
    options=(-o "Dir::Etc::SourceList=$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder/cache" -o APT::Sandbox::User=root)
    (
        cd "$folder"
        apt-get "${options[@]}" -qq update
        apt-get "${options[@]}" -qq download "$@"
        for package in *.deb; do dpkg -x "$package" root; done
    )
}
