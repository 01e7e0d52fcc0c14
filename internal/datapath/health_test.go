package datapath_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

func TestHealthIsReadAsWritten(t *testing.T) {
	need.Root(t)
	d, err := datapath.Open(datapath.Options{Limits: lb.Limits{Flows: 64, Services: 4, Backends: 4, TableEntries: 1024}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	at := func(n int) time.Time { return time.Unix(1_800_000_000, int64(n)) }
	full := &lb.Health{State: lb.HealthUp, Error: "no answer within 1s", ErrorAt: at(99)}
	for i := range lb.MostTransitions {
		full.Transitions = append(full.Transitions, lb.Transition{At: at(i), State: []lb.HealthState{lb.HealthDown, lb.HealthUp}[i%2]})
	}
	wordy := &lb.Health{State: lb.HealthDown, Transitions: []lb.Transition{{At: at(1), State: lb.HealthDown, Cause: strings.Repeat("x", 71)}}}
	written := map[uint32]*lb.Health{1: {State: lb.HealthUnknown}, 2: {State: lb.HealthNew}, 3: full, 4: wordy}
	for id, h := range written {
		if n, err := d.PutBackendHealth([]uint32{id}, []*lb.Health{h}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	wordy.Transitions[0].Cause = strings.Repeat("x", 67) + "..."
	checkHealth(t, d, written)

	// without a check, and without the backend
	for id, forget := range map[uint32]func(uint32) error{1: d.DeleteBackendHealth, 2: d.DeleteBackendName} {
		delete(written, id)
		for range 2 {
			if err := forget(id); err != nil {
				t.Error(err)
			}
		}
	}
	checkHealth(t, d, written)
}

func checkHealth(t *testing.T, d *datapath.Datapath, want map[uint32]*lb.Health) {
	t.Helper()
	tables, err := d.ReadTables()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(tables.Health, want) {
		t.Errorf("got %v, want %v", tables.Health, want)
	}
}
