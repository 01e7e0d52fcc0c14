// Package harness measures XDP programs with the kernel's test-run: each round's
// packet is a new one, of the next of many flows.
package harness

//go:generate go tool bpf2go -go-package harness -target bpfel -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" bench ../../../bpf/test/bench.bpf.c
