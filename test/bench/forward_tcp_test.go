package bench

import "testing"

func benchmarkTCP(b *testing.B) {}
