// Package stresstest gives the data plane packets on several CPUs at once, and
// judges each that leaves.
package stresstest

//go:generate go tool bpf2go -go-package stresstest -target bpfel -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" -type result stress ../../../bpf/test/stress.bpf.c
