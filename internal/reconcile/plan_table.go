package reconcile

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/maglev"
)

// content is what a scheduler table was built from.
type content struct {
	size   uint32
	seed   uint32
	shares []share // by id
}

// share is a backend that may take new flows.
type share struct {
	id, generation uint32
	weight         uint32
}

func (c content) equal(o content) bool {
	return c.size == o.size && c.seed == o.seed && slices.Equal(c.shares, o.shares)
}

// planTable keeps the service's table or plans a new one beside it. The old
// one's room is free for the next service: by then no key leads to it.
func (p *plan) planTable(c *change) error {
	r, books := p.r, p.r.books
	c.entry = lb.ServiceEntry{
		ID: c.service.id, Forward: c.config.Forward, Scheduler: c.config.Scheduler, QUIC: c.config.QUIC, Silent: c.config.Silent,
	}
	var taken stretch
	if !c.service.down && len(c.keys) > 0 {
		slices.SortFunc(c.content.shares, func(a, b share) int { return cmp.Compare(a.id, b.id) })
		c.content.seed = r.seed
		c.content.size = cmp.Or(c.config.TableSize, maglev.SizeFor(len(c.config.Backends)))
		offset, exists := r.findTable(c)
		if !exists {
			room := tableRoom(c.content.size)
			first, err := books.tables.take(room.size)
			if err != nil {
				return err
			}
			taken, offset = stretch{first, room.size}, first*lb.TableChunk
			c.isNewTable = true
		}
		c.entry.TableOffset, c.entry.TableSize = offset, c.content.size
	}
	for _, key := range c.keys {
		p.keys[key] = true
		old, exists := r.actual.services[key]
		p.moves = p.moves || !exists
		books.tables.release(tableStretch(old))
		books.tables.hold(tableStretch(c.entry))
	}
	books.tables.release(taken) // each key holds it itself
	books.tables.settle(r.forgetTable)
	return nil
}

// findTable looks for the wanted content among the tables that the service uses now.
func (r *Reconciler) findTable(c *change) (offset uint32, exists bool) {
	for _, key := range c.service.keys {
		entry := r.actual.services[key]
		if entry.TableSize > 0 && r.contents[entry.TableOffset].equal(c.content) {
			return entry.TableOffset, true
		}
	}
	return 0, false
}

func (r *Reconciler) forgetTable(s stretch) { delete(r.contents, s.first*lb.TableChunk) }

// buildTables builds the new tables of some services side by side: in a large config
// they are the largest part of the work.
func buildTables(changes []*change) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, c := range changes {
		if c.isNewTable {
			group.Go(func() (err error) {
				c.table, err = buildTable(c)
				return err
			})
		}
	}
	return group.Wait()
}

func buildTable(c *change) ([]uint32, error) {
	entries, ids := make([]maglev.Entry, 0, len(c.backends)), make([]uint32, 0, len(c.backends))
	for _, b := range c.backends {
		if b.takesFlows() {
			entries = append(entries, maglev.Entry{Key: b.name.Address.String(), Weight: b.name.Weight})
			ids = append(ids, b.id)
		}
	}
	slots, err := maglev.Build(entries, c.content.size, uint64(c.content.seed))
	if err != nil {
		return nil, fmt.Errorf("build the maglev table: %w", err)
	}
	table := make([]uint32, len(slots))
	for i, slot := range slots {
		table[i] = ids[slot]
	}
	return table, nil
}
