package reconcile_test
import ("testing";"syscall")
func cpuNow() int64 { var u syscall.Rusage; syscall.Getrusage(1, &u); return u.Utime.Nano()+u.Stime.Nano() }
func init() { cpuMetric = func(b *testing.B, n int, start int64) { b.ReportMetric(float64(cpuNow()-start)/1e6/float64(n), "cpu-ms/op") } }
var cpuMetric func(*testing.B,int,int64)
