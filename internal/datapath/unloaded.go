package datapath

import (
	"maps"

	"github.com/cilium/ebpf"
)

// Unloaded is a program that the kernel does not have yet, for whoever builds it
// into another, such as a benchmark.
type Unloaded struct {
	Spec    *ebpf.CollectionSpec
	Program string               // its name in Spec
	Maps    map[string]*ebpf.Map // to take the place of those in Spec; whoever made them closes them
}

// Unloaded is what Load loads.
func (d *Datapath) Unloaded(a Attachment) (Unloaded, error) {
	spec, err := d.spec(a.knobs())
	if err != nil {
		return Unloaded{}, err
	}
	return Unloaded{Spec: spec, Program: "tinylb", Maps: maps.Clone(d.all)}, nil
}
