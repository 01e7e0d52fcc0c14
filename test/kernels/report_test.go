package kernels

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mark is what -test.v=test2json puts before each of its own lines.
const mark = "\x16"

const passing = mark + "=== RUN   TestA\n" +
	mark + "=== RUN   TestA/case\n" +
	"    a_test.go:1: talking\n" +
	mark + "--- PASS: TestA (0.10s)\n" +
	"    " + mark + "--- PASS: TestA/case (0.00s)\n" +
	mark + "PASS\n"

const skipping = mark + "=== RUN   TestB\n" +
	"    b_test.go:1: needs the program nginx\n" +
	mark + "--- SKIP: TestB (0.00s)\n" +
	mark + "PASS\n"

const failing = mark + "=== RUN   TestC\n" +
	"    c_test.go:1: wrong\n" +
	mark + "--- FAIL: TestC (0.00s)\n" +
	mark + "FAIL\n"

const crashing = mark + "=== RUN   TestA\n" +
	mark + "--- PASS: TestA (0.00s)\n" +
	mark + "=== RUN   TestD\n"

func TestReadReport(t *testing.T) {
	serial := "KERNEL-TEST kernel 6.1.0-56-cloud-amd64\n\nKERNEL-TEST begin internal/a\none\ntwo\n\nKERNEL-TEST internal/a exit=0\n" +
		"\nKERNEL-TEST begin internal/b\nno newline at the end\nKERNEL-TEST internal/b exit=-1\nKERNEL-TEST done\n"
	report := ReadReport([]byte(strings.ReplaceAll(serial, "\n", "\r\n")))
	if report.Kernel != "6.1.0-56-cloud-amd64" || !report.Done || report.Trouble != "" || len(report.Sections) != 2 {
		t.Fatalf("got %+v", report)
	}
	a, b := report.Sections["internal/a"], report.Sections["internal/b"]
	if string(a.Output) != "one\ntwo\n\n" || a.Exit != 0 || !a.Ended {
		t.Errorf("a: %+v %q", a, a.Output)
	}
	if string(b.Output) != "no newline at the end\n" || b.Exit != -1 || !b.Ended {
		t.Errorf("b: %+v %q", b, b.Output)
	}
}

func TestReadReportCutShort(t *testing.T) {
	report := ReadReport([]byte("KERNEL-TEST kernel 6.1.0\nKERNEL-TEST begin a\nhalf a li"))
	a := report.Sections["a"]
	if report.Done || a.Ended || string(a.Output) != "half a li" {
		t.Errorf("got %+v, section %+v %q", report, a, a.Output)
	}
	report = ReadReport([]byte("KERNEL-TEST kernel 6.1.0\n\nKERNEL-TEST trouble: loading the module veth: no\n"))
	if report.Done || !strings.Contains(report.Trouble, "veth") {
		t.Errorf("got %+v", report)
	}
}

func TestJudge(t *testing.T) {
	nginx := []*regexp.Regexp{regexp.MustCompile("needs the program nginx")}
	for name, tc := range map[string]struct {
		allowed []*regexp.Regexp
		listed  []string
		section Section
		want    []string // test, status
	}{
		"all pass": {
			listed:  []string{"TestA"},
			section: Section{Output: []byte(passing), Ended: true},
			want:    []string{"TestA pass", "TestA/case pass"},
		},
		"one fails": {
			listed:  []string{"TestC"},
			section: Section{Output: []byte(failing), Exit: 1, Ended: true},
			want:    []string{"TestC fail"},
		},
		"a test is missing": {
			listed:  []string{"TestA", "TestZ"},
			section: Section{Output: []byte(passing), Ended: true},
			want:    []string{"TestA pass", "TestA/case pass", "TestZ fail"},
		},
		"skipped for an unknown reason": {
			listed:  []string{"TestB"},
			section: Section{Output: []byte(skipping), Ended: true},
			want:    []string{"TestB fail"},
		},
		"skipped for an allowed reason": {
			allowed: nginx,
			listed:  []string{"TestB"},
			section: Section{Output: []byte(skipping), Ended: true},
			want:    []string{"TestB skip"},
		},
		"the guest dies in a test": {
			listed:  []string{"TestA", "TestD", "TestE"},
			section: Section{Output: []byte(crashing)},
			want:    []string{"TestA pass", "TestD fail", "TestE fail"},
		},
		"the binary fails after its tests": {
			listed:  []string{"TestA"},
			section: Section{Output: []byte(passing), Exit: 2, Ended: true},
			want:    []string{"TestA pass", "TestA/case pass", "exit fail"},
		},
		"the binary does not start": {
			listed:  []string{"TestA"},
			section: Section{Output: []byte("no such file\n"), Exit: -1, Ended: true},
			want:    []string{"TestA fail"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			outcomes, err := Judge(Package{AllowedSkips: tc.allowed}, tc.listed, tc.section)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range outcomes {
				got = append(got, o.Test+" "+string(o.Status))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
