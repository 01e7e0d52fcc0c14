// Package flood sends as many UDP packets through a network as one core can, and
// counts those that arrive.
package flood

//go:generate go tool bpf2go -go-package flood -target bpfel -no-global-types -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" flood ../../../bpf/test/flood.bpf.c
