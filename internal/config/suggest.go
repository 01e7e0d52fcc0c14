package config

import (
	"fmt"
	"strings"
)

// suggest is a hint toward the known words: the one that was probably meant, or
// all of them.
func suggest(word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "expected one of: " + strings.Join(known, ", ")
}

// Nearest is the known word fewest edits away from a misspelt one, "" if
// none is near.
func Nearest(word string, known []string) string {
	const longest = 32 // no known word is longer, and distance takes time by the square
	if len(word) > longest {
		return ""
	}
	word = strings.ToLower(word)
	best, least := "", max(1, len(word)/3)
	for _, k := range known {
		if d := distance(word, k); d <= least {
			best, least = k, d-1
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace, or swap with
// their neighbour to get from one word to the other (optimal string alignment).
func distance(a, b string) int {
	var older []int
	previous := make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := range len(a) {
		current := make([]int, len(b)+1)
		current[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			current[j+1] = min(previous[j+1]+1, current[j]+1, previous[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				current[j+1] = min(current[j+1], older[j-1]+1)
			}
		}
		older, previous = previous, current
	}
	return previous[len(b)]
}
