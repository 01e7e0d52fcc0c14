// Package diff runs packets through the BPF program and through the model, and
// finds where they disagree.
package diff

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/model"
)

// World is what the balancer is set to do, and the network around it.
type World struct {
	Config lb.Config
	Hops   map[netip.Addr]lb.NextHop
	Host   []netip.Addr // the addresses of its host
	MTUs   map[int]int  `json:",omitempty"` // of interfaces, by index
}

// Event is what happens next: a frame that arrives, another World, or dead flows are cleared.
type Event struct {
	After time.Duration // since the event before
	Frame Frame         `json:",omitempty"`
	World *World        `json:",omitempty"`
	Sweep bool          `json:",omitempty"`
}

// Case is everything that a run depends on.
type Case struct {
	About  string // for whoever reads the corpus
	Port   model.Options
	Hash   HashKeys `json:",omitzero"`
	World  World    // at the start
	Events []Event
}

// Frame is readable in a corpus file.
type Frame []byte

// MarshalText is hexadecimal.
func (f Frame) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, f), nil }

// UnmarshalText is its inverse.
func (f *Frame) UnmarshalText(text []byte) (err error) {
	*f, err = hex.DecodeString(string(text))
	return err
}

// ReadCase reads a corpus file.
func ReadCase(path string) (Case, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Case{}, fmt.Errorf("read a case: %w", err)
	}
	var c Case
	if err := json.Unmarshal(data, &c); err != nil {
		return Case{}, fmt.Errorf("read the case %s: %w", path, err)
	}
	return c, nil
}

// Write makes a corpus file of the case.
func (c Case) Write(path string) error {
	data, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return fmt.Errorf("write a case: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write a case: %w", err)
	}
	return nil
}
