package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/lb"
)

// ruleBatch is how many rules cost one system call.
const ruleBatch = 4096

// PutSourceRules writes rules under a number that no service has yet. After an error some are written.
func (d *Datapath) PutSourceRules(number uint32, rules lb.SourceRules) error {
	for _, list := range []struct {
		prefixes []netip.Prefix
		rule     lbSourceRule
	}{{rules.Allow, lbSourceRuleSOURCE_ALLOWED}, {rules.Deny, lbSourceRuleSOURCE_DENIED}} {
		values := slices.Repeat([]lbSourceRule{list.rule}, min(ruleBatch, len(list.prefixes)))
		for some := range slices.Chunk(list.prefixes, ruleBatch) {
			if _, err := d.maps.SourceRules.BatchUpdate(sourceKeys(number, some), values[:len(some)], nil); err != nil {
				return fmt.Errorf("write map source_rules: %w", err)
			}
		}
	}
	return nil
}

// DeleteSourceRules undoes PutSourceRules, also where that has failed.
func (d *Datapath) DeleteSourceRules(number uint32, rules lb.SourceRules) error {
	for some := range slices.Chunk(slices.Concat(rules.Allow, rules.Deny), ruleBatch) {
		for keys := sourceKeys(number, some); len(keys) > 0; {
			n, err := d.maps.SourceRules.BatchDelete(keys, nil)
			switch {
			case err == nil:
				n = len(keys)
			case errors.Is(err, ebpf.ErrKeyNotExist):
				n++ // that one
			default:
				return fmt.Errorf("delete from map source_rules: %w", err)
			}
			keys = keys[n:]
		}
	}
	return nil
}

func sourceKeys(number uint32, prefixes []netip.Prefix) []lbSourcePrefix {
	keys := make([]lbSourcePrefix, len(prefixes))
	for i, prefix := range prefixes {
		keys[i] = sourcePrefixToBPF(number, prefix)
	}
	return keys
}

// readSourceRules reads all, by their number.
func (d *Datapath) readSourceRules(all map[uint32]lb.SourceRules) error {
	err := each(d.maps.SourceRules, func(k lbSourcePrefix, rule lbSourceRule) {
		rules := all[k.Rules]
		if rule == lbSourceRuleSOURCE_ALLOWED {
			rules.Allow = append(rules.Allow, sourcePrefixFromBPF(k))
		} else {
			rules.Deny = append(rules.Deny, sourcePrefixFromBPF(k))
		}
		all[k.Rules] = rules
	})
	for _, rules := range all {
		slices.SortFunc(rules.Allow, netip.Prefix.Compare)
		slices.SortFunc(rules.Deny, netip.Prefix.Compare)
	}
	return err
}
