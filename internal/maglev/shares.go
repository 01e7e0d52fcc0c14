package maglev

import (
	"cmp"
	"iter"
	"slices"
)

// shares divides size slots by weight with the method of the largest
// remainder, after giving one slot to everyone who is due less than that.
func shares(weights []uint32, size uint32) []uint32 {
	result := make([]uint32, len(weights))
	lightestFirst := make([]int, len(weights))
	sum := uint64(0)
	for i, weight := range weights {
		lightestFirst[i] = len(weights) - 1 - i
		sum += uint64(weight)
	}
	slices.SortStableFunc(lightestFirst, func(a, b int) int { return cmp.Compare(weights[a], weights[b]) })

	rest := lightestFirst
	for len(rest) > int(size) {
		sum -= uint64(weights[rest[0]])
		rest = rest[1:]
	}
	slots := uint64(size)
	for len(rest) > 0 && slots*uint64(weights[rest[0]]) < sum {
		result[rest[0]] = 1
		slots--
		sum -= uint64(weights[rest[0]])
		rest = rest[1:]
	}
	divide(result, rest, weights, slots, sum)
	return result
}

// divide shares slots among the entries named by who, whose weights add up to sum.
func divide(result []uint32, who []int, weights []uint32, slots, sum uint64) {
	remainders := make([]uint64, len(weights))
	left := slots
	for _, i := range who {
		exact := slots * uint64(weights[i])
		result[i] = uint32(exact / sum)
		remainders[i] = exact % sum
		left -= exact / sum
	}
	slices.SortFunc(who, func(a, b int) int {
		return cmp.Or(cmp.Compare(remainders[b], remainders[a]), cmp.Compare(a, b))
	})
	for _, i := range who[:left] {
		result[i]++
	}
}

// turns lists who takes a slot when. There are as many rounds as the largest
// share has slots; whoever has fewer sits out rounds at even distances. With
// equal shares that is the paper's round robin.
func turns(shares []uint32) []int32 {
	rounds := slices.Max(shares)
	starts := make([]uint32, rounds+1) // starts[r+1] first counts the turns of round r
	for _, share := range shares {
		for round := range spread(share, rounds) {
			starts[round+1]++
		}
	}
	for r := range rounds {
		starts[r+1] += starts[r]
	}
	list := make([]int32, starts[rounds])
	for who, share := range shares {
		for round := range spread(share, rounds) {
			list[starts[round]] = int32(who)
			starts[round]++
		}
	}
	return list
}

// spread yields the rounds in which an entry with so many slots takes one: the
// j-th (from 0) in round j*rounds/share. It steps there as Bresenham draws a
// line, because a division for each slot would cost more than taking the slot.
func spread(share, rounds uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		if share == 0 {
			return
		}
		whole, part := rounds/share, rounds%share
		round, debt := uint32(0), uint32(0)
		for range share {
			if !yield(round) {
				return
			}
			round += whole
			debt += part
			if debt >= share {
				debt -= share
				round++
			}
		}
	}
}
