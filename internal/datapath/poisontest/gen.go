// Package poisontest lets a test run frames through a program as drivers hand
// them over: with dirty headroom.
package poisontest

//go:generate go tool bpf2go -go-package poisontest -target bpfel -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" poison ../../../bpf/test/poison.bpf.c
