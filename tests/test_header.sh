#!/bin/sh
# test_header.sh CC CXX LIBDIR SOURCE - tacit.h alone as C11 and as C++17, and the examples in its
# comment and in README.md: compiled as both, linked with libtacit, run on photos.
set -eu
cc=$1 cxx=$2 lib=$3 source=$4
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
flags="-Wall -Wextra -pedantic -Werror -I$source -I$source/kernels/rt"

printf '#include <tacit.h>\n' >"$dir/alone.c"
sed -n 's/^ \*     //p; s/^ \*$//p' "$source/tacit.h" >"$dir/example.c"
grep -q embed_file "$dir/example.c"
cat >>"$dir/example.c" <<'C'
int main(int argc, char **argv)
{
    static char jpeg[1 << 20];
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    size_t size = f ? fread(jpeg, 1, sizeof jpeg, f) : 0;
    if (f)
        fclose(f);
    return embed_file("default", jpeg, size) ? 1 : 0;
}
C
cp "$dir/alone.c" "$dir/alone.cc"
sed -n '/^```c$/,/^```$/p' "$source/README.md" | sed '/^```/d' >"$dir/readme.c"
grep -q 'int main' "$dir/readme.c"
cp "$dir/example.c" "$dir/example.cc"
cp "$dir/readme.c" "$dir/readme.cc"
photo=$(find "$source/demo/photos" -name '*.jpg' | sort | head -n 1)
find "$source/demo/photos" -name '*.jpg' | sort | head -n 6 >"$dir/photos"

build() { # COMPILER STANDARD SUFFIX
    "$1" -std="$2" $flags -fsyntax-only "$dir/alone.$3"
    "$1" -std="$2" $flags "$dir/example.$3" -L"$lib" -Wl,-rpath,"$lib" -ltacit -o "$dir/example"
    "$dir/example" "$photo" >"$dir/out"
    grep -q '^256 values, the first is ' "$dir/out"
    if "$dir/example" "$source/tacit.h" 2>"$dir/out"; then
        echo "text passes for an image" >&2
        exit 1
    fi
    "$1" -std="$2" $flags "$dir/readme.$3" -L"$lib" -Wl,-rpath,"$lib" -ltacit -o "$dir/readme"
    xargs "$dir/readme" "$source/tacit.h" <"$dir/photos" >"$dir/out" 2>"$dir/err"
    [ "$(grep -c ': 256 values, the first is ' "$dir/out")" = 6 ]
    [ "$(wc -l <"$dir/err")" = 1 ] && grep -q "^$source/tacit.h: not a JPEG" "$dir/err"
    # The values are those of tacit serve for the same files.
    [ ! -x "$lib/tacit" ] || "$lib/tacit" serve --weights default <"$dir/photos" 2>"$dir/err" |
        sed 's/{"path":"\([^"]*\)","vector":\[\([^,]*\),.*/\1: 256 values, the first is \2/' |
        cmp - "$dir/out"
}
build "$cc" c11 c
if command -v "$cxx" >/dev/null; then
    build "$cxx" c++17 cc
else
    echo "skipped: C++: no $cxx"
fi
# What other programs can see of the library is what its headers declare.
nm -D --defined-only "$lib/libtacit.so" | sed -n 's/.* [A-Z] //p' | while read -r name; do
    cat "$source/tacit.h" "$source/kernels/rt/status.h" | grep -q "$name(" || {
        echo "libtacit.so exports $name" >&2
        exit 1
    }
done
