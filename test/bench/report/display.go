package main

import (
	"fmt"
	"strings"
)

// display writes a value with its unit for a table.
func display(v float64, unit string) string {
	switch {
	case unit == nsPerOp:
		return duration(v)
	case unit == "x":
		return short(v) + "x"
	case bareUnit(unit) == "x": // x-empty, p99-x-direct
		_, of, _ := strings.Cut(unit, "x-")
		return short(v) + " x " + of
	}
	if quantity, of, ok := strings.Cut(unit, "-"); ok { // rss-MB, p50-ms
		return fmt.Sprintf("%s %s %s", short(v), of, quantity)
	}
	return short(v) + " " + unit
}

// bareUnit is x for every ratio, where its place says to what.
func bareUnit(unit string) string {
	if strings.HasPrefix(unit, "x-") || strings.HasPrefix(unit, "p99-x-") {
		return "x"
	}
	return unit
}

// duration writes ns as what reads best.
func duration(ns float64) string {
	switch {
	case ns >= 1e9:
		return short(ns/1e9) + " s"
	case ns >= 1e6:
		return short(ns/1e6) + " ms"
	case ns >= 1e4:
		return short(ns/1e3) + " µs"
	}
	return short(ns) + " ns"
}

// short has three digits or more: 0.95, 3.42, 10.5, 480, 71,300.
func short(v float64) string {
	switch {
	case v == float64(int64(v)) && v < 1000:
		return fmt.Sprintf("%d", int64(v))
	case v < 9.995:
		return fmt.Sprintf("%.2f", v)
	case v < 99.95:
		return fmt.Sprintf("%.1f", v)
	}
	return thousands(fmt.Sprintf("%.0f", v))
}

func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
