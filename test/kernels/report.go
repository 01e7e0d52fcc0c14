package kernels

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/tinylb/tinylb/test/kernels/guest"
)

// Status is how a test ended.
type Status string

const (
	Passed  Status = "pass"
	Failed  Status = "fail"
	Skipped Status = "skip"
)

// Outcome is what became of one test in the guest.
type Outcome struct {
	Test   string // with its parents: TestA/case
	Status Status
	Output string
}

// Section is what one test binary printed.
type Section struct {
	Output []byte
	Exit   int
	Ended  bool // false: the guest died in it
}

// Report is all that a guest said.
type Report struct {
	Kernel   string
	Sections map[string]Section
	Trouble  string
	Done     bool
}

// ReadReport takes apart what came over the guest's serial line.
func ReadReport(serial []byte) Report {
	report := Report{Sections: map[string]Section{}}
	var name string
	var output bytes.Buffer
	for raw := range bytes.Lines(bytes.ReplaceAll(serial, []byte("\r\n"), []byte("\n"))) {
		line := strings.TrimSuffix(string(raw), "\n")
		var kernel, begun, ended string
		var exit int
		switch {
		case scan(line, guest.KernelFormat, &kernel):
			report.Kernel = kernel
		case scan(line, guest.BeginFormat, &begun):
			name = begun
			output.Reset()
			report.Sections[name] = Section{}
		case scan(line, guest.EndFormat, &ended, &exit) && ended == name:
			report.Sections[name] = Section{Output: bytes.Clone(output.Bytes()), Exit: exit, Ended: true}
			name = ""
		case line == guest.DoneLine:
			report.Done = true
		case strings.HasPrefix(line, strings.TrimSuffix(guest.TroubleFormat, "%s")):
			report.Trouble = line
		case name != "":
			output.Write(raw)
		}
	}
	if name != "" {
		report.Sections[name] = Section{Output: output.Bytes()}
	}
	return report
}

func scan(line, format string, into ...any) bool {
	n, err := fmt.Sscanf(line, format, into...)
	return err == nil && n == len(into)
}

// Judge says what became of every test of a binary. Of the tests listed none
// may be missing, and only those of a reason that the package allows may have
// been skipped.
func Judge(pkg Package, listed []string, section Section) ([]Outcome, error) {
	outcomes, err := readOutcomes(section.Output)
	if err != nil {
		return nil, err
	}
	ran := map[string]bool{}
	failed := false
	for i := range outcomes {
		o := &outcomes[i]
		ran[o.Test] = true
		if o.Status == Skipped && !allowed(pkg.AllowedSkips, o.Output) {
			o.Status = Failed
			o.Output += "skipped for a reason that is not among the package's AllowedSkips\n"
		}
		failed = failed || o.Status == Failed
	}
	for _, test := range listed {
		if !ran[test] {
			outcomes = append(outcomes, Outcome{Test: test, Status: Failed, Output: "did not run\n"})
			failed = true
		}
	}
	if !failed && (!section.Ended || section.Exit != 0) {
		outcomes = append(outcomes, Outcome{
			Test:   "exit",
			Status: Failed,
			Output: fmt.Sprintf("no test failed, but the binary exited with %d (ended: %v)\n%s", section.Exit, section.Ended, section.Output),
		})
	}
	return outcomes, nil
}

func allowed(skips []*regexp.Regexp, output string) bool {
	return slices.ContainsFunc(skips, func(re *regexp.Regexp) bool { return re.MatchString(output) })
}

// readOutcomes lets the go command read the output of -test.v=test2json. A
// test that began and did not end has failed.
func readOutcomes(output []byte) ([]Outcome, error) {
	cmd := exec.Command("go", "tool", "test2json")
	cmd.Stdin = bytes.NewReader(output)
	events, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool test2json: %w", err)
	}
	var outcomes []Outcome
	index := map[string]int{}
	for decoder := json.NewDecoder(bytes.NewReader(events)); ; {
		var event struct{ Action, Test, Output string }
		if err := decoder.Decode(&event); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("reading test2json: %w", err)
		}
		if event.Test == "" {
			continue
		}
		i, known := index[event.Test]
		if !known {
			i = len(outcomes)
			index[event.Test] = i
			outcomes = append(outcomes, Outcome{Test: event.Test})
		}
		switch status := Status(event.Action); status {
		case Passed, Failed, Skipped:
			outcomes[i].Status = status
		default:
			outcomes[i].Output += event.Output
		}
	}
	for i := range outcomes {
		if outcomes[i].Status == "" {
			outcomes[i].Status = Failed
			outcomes[i].Output += "did not run to its end\n"
		}
	}
	return outcomes, nil
}
