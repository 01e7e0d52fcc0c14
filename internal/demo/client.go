package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sync/errgroup"
)

// Load is a number of HTTP requests, each over a connection of its own.
type Load struct {
	URL         string
	Requests    int
	Concurrency int           // requests under way at once
	Timeout     time.Duration // of one request, connecting included
	Wait        time.Duration // for the first success, before anything counts
}

// Limits keep a mistyped number from using up the machine.
const (
	MaxRequests    = 1_000_000
	MaxConcurrency = 1000
)

// Tally is who answered.
type Tally struct {
	Requests int            `json:"requests"`
	OK       int            `json:"ok"`
	Failed   int            `json:"failed"`
	Backends map[string]int `json:"backends"` // answers per backend name
}

// Latency spreads over the requests that succeeded: connecting, request and
// whole answer together.
type Latency struct {
	Min time.Duration `json:"min"`
	P50 time.Duration `json:"p50"`
	P90 time.Duration `json:"p90"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

// Result is what became of a Load.
type Result struct {
	Tally
	Latency Latency        `json:"latency_ns"`
	Errors  map[string]int `json:"errors"` // failed requests per cause
}

// answer is what became of one request.
type answer struct {
	backend string
	took    time.Duration
	err     error
}

// Validate says what about the load makes no sense.
func (l Load) Validate() error {
	switch {
	case l.Requests < 1 || l.Requests > MaxRequests:
		return fmt.Errorf("%d requests: want 1 to %d", l.Requests, MaxRequests)
	case l.Concurrency < 1 || l.Concurrency > MaxConcurrency:
		return fmt.Errorf("concurrency %d: want 1 to %d", l.Concurrency, MaxConcurrency)
	case l.Timeout <= 0:
		return fmt.Errorf("timeout %v: want more than 0", l.Timeout)
	}
	return nil
}

// Run sends the requests. Requests that fail are part of the result; an error
// means that not all were sent.
func (l Load) Run(ctx context.Context) (Result, error) {
	if err := l.Validate(); err != nil {
		return Result{}, err
	}
	client := &http.Client{
		Timeout: l.Timeout,
		// No proxy from the environment, and a connection per request.
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	if err := l.waitForService(ctx, client); err != nil {
		return Result{}, err
	}
	answers := make([]answer, l.Requests)
	var group errgroup.Group
	group.SetLimit(l.Concurrency)
	for i := range answers {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			start := time.Now()
			name, err := ask(ctx, client, l.URL)
			answers[i] = answer{backend: name, took: time.Since(start), err: err}
			return nil
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return Result{}, fmt.Errorf("sending requests to %s: %w", l.URL, err)
	}
	return summarize(answers), nil
}

const retryInterval = 100 * time.Millisecond

// waitForService asks until one request succeeds.
func (l Load) waitForService(ctx context.Context, client *http.Client) error {
	if l.Wait <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.Wait)
	defer cancel()
	retry := time.NewTicker(retryInterval)
	defer retry.Stop()
	for {
		_, err := ask(ctx, client, l.URL)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer from %s within %v: %w", l.URL, l.Wait, err)
		case <-retry.C:
		}
	}
}

// ask returns the first line of the answer: the backend's name.
func ask(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("HTTP status %s", response.Status)
	}
	const longestName = 256
	name, err := bufio.NewReader(io.LimitReader(response.Body, longestName)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	name = strings.TrimSpace(strings.Map(printable, name))
	if name == "" {
		return "", errors.New("the answer carries no name")
	}
	return name, nil
}

// printable keeps an answer from controlling the terminal it is printed on.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return -1
	}
	return r
}

func summarize(answers []answer) Result {
	r := Result{
		Tally:  Tally{Requests: len(answers), Backends: map[string]int{}},
		Errors: map[string]int{},
	}
	var took []time.Duration
	for _, a := range answers {
		if a.err != nil {
			r.Failed++
			r.Errors[cause(a.err)]++
			continue
		}
		r.OK++
		r.Backends[a.backend]++
		took = append(took, a.took)
	}
	slices.Sort(took)
	r.Latency = spread(took)
	return r
}

// spread takes the nearest rank for each percentile of the sorted times.
func spread(took []time.Duration) Latency {
	if len(took) == 0 {
		return Latency{}
	}
	percentile := func(p int) time.Duration {
		return took[(len(took)*p+99)/100-1]
	}
	return Latency{
		Min: took[0],
		P50: percentile(50),
		P90: percentile(90),
		P99: percentile(99),
		Max: took[len(took)-1],
	}
}

// cause leaves out what differs between requests, such as the client's port.
func cause(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
