package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// chart is one panel: a number on the y axis for each group on the x axis and
// each series. NaN is a gap.
type chart struct {
	title, yLabel string
	groups        []string
	series        []series
	references    []reference
	lines         bool // points with lines between them, not bars
}

type series struct {
	name   string
	values []float64 // one per group
}

// reference is a value to compare with, a dashed line across the panel.
type reference struct {
	name  string
	value float64
}

// Sizes in px. The right margin holds the names of lines.
const (
	chartWidth, panelHeight   = 880, 350
	left, right, top, bottom  = 64, 120, 66, 40
	plotWidth                 = chartWidth - left - right
	plotHeight                = panelHeight - top - bottom
	widestBar                 = 36.0
	labelHeight               = 14.0
	ink, faint, grid, surface = "#1f2328", "#59636e", "#e4e7eb", "#ffffff"
)

// colour is told apart from the others by colour-blind readers, too (Okabe and Ito).
func colour(i int) string {
	all := []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f"}
	return all[i%len(all)]
}

// svg draws panels below each other, on a white card that a dark page shows as well.
func svg(charts ...chart) string {
	var b strings.Builder
	height := panelHeight * len(charts)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" width="%d" height="%d" viewBox="0 0 %d %d" `+
		`font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="12" fill="%s">`+"\n",
		chartWidth, height, chartWidth, height, ink)
	fmt.Fprintf(&b, `<title>%s</title>`+"\n", html.EscapeString(charts[0].title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="8" fill="%s"/>`+"\n", chartWidth, height, surface)
	for i, c := range charts {
		p := panel{chart: c, out: &b}
		p.max, p.step = axis(c.highest())
		fmt.Fprintf(&b, `<g transform="translate(0 %d)">`+"\n", i*panelHeight)
		p.draw()
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (c chart) highest() float64 {
	highest := 0.0
	for _, s := range c.series {
		for _, v := range s.values {
			if v > highest { // never for NaN
				highest = v
			}
		}
	}
	for _, r := range c.references {
		highest = max(highest, r.value)
	}
	return highest
}

// axis has four to eight steps of 1, 2 or 5 times a power of ten, and ends
// above the highest value so that its label has room.
func axis(highest float64) (end, step float64) {
	if highest <= 0 {
		return 1, 0.25
	}
	step = math.Pow(10, math.Floor(math.Log10(highest/4)))
	for _, m := range []float64{5, 2} {
		if step*m <= highest/4 {
			step *= m
			break
		}
	}
	return step * math.Ceil(highest*1.05/step), step
}

// panel is a chart that is being drawn.
type panel struct {
	chart
	max, step float64
	out       *strings.Builder
}

func (p panel) y(value float64) float64 {
	return top + plotHeight*(1-value/p.max)
}

// middle is the x of a group.
func (p panel) middle(group int) float64 {
	return left + plotWidth*(float64(group)+0.5)/float64(len(p.groups))
}

func (p panel) text(x, y float64, anchor, fill, extra, text string) {
	fmt.Fprintf(p.out, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s"%s>%s</text>`+"\n", x, y, anchor, fill, extra, html.EscapeString(text))
}

func (p panel) rule(y float64, stroke, dash string) {
	fmt.Fprintf(p.out, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="%s"/>`+"\n", left, left+plotWidth, y, y, stroke, dash)
}

func (p panel) draw() {
	p.text(left, 26, "start", ink, ` font-size="15" font-weight="600"`, p.title)
	p.axes()
	var names []label
	if p.lines {
		names = p.drawLines()
	} else {
		p.legend()
		p.eachBar(p.drawBar)
	}
	for _, r := range p.references {
		p.rule(p.y(r.value), faint, "5 4")
		names = append(names, label{p.y(r.value), r.name + " " + short(r.value), faint})
	}
	if !p.lines {
		p.eachBar(p.drawNumber) // over the references
	}
	for _, l := range spread(names) {
		p.text(left+plotWidth+10, l.y+4, "start", l.fill, "", l.text)
	}
}

func (p panel) axes() {
	for i := 0; float64(i)*p.step <= p.max*1.001; i++ {
		v := float64(i) * p.step
		p.rule(p.y(v), grid, "none")
		p.text(left-8, p.y(v)+4, "end", faint, "", tick(v, p.step))
	}
	for i, name := range p.groups {
		p.text(p.middle(i), top+plotHeight+20, "middle", ink, "", name)
	}
	fmt.Fprintf(p.out, `<text transform="translate(18 %d) rotate(-90)" text-anchor="middle" fill="%s">%s</text>`+"\n",
		top+plotHeight/2, faint, html.EscapeString(p.yLabel))
}

// tick has as many decimals as the step.
func tick(v, step float64) string {
	return fmt.Sprintf("%.*f", max(0, int(-math.Floor(math.Log10(step)+1e-9))), v)
}

// bar is one that is measured.
type bar struct {
	x, width, value float64
	fill            string
}

func (p panel) eachBar(draw func(bar)) {
	width := min(widestBar, 0.86*plotWidth/float64(len(p.groups)*len(p.series)))
	for i, s := range p.series {
		for group, v := range s.values {
			if !math.IsNaN(v) {
				draw(bar{p.middle(group) + width*(float64(i)-float64(len(p.series))/2), width, v, colour(i)})
			}
		}
	}
}

func (p panel) drawBar(b bar) {
	fmt.Fprintf(p.out, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", b.x+1, p.y(b.value), b.width-2, p.y(0)-p.y(b.value), b.fill)
}

// drawNumber gives it a halo, so that it stays readable where a line runs through it.
func (p panel) drawNumber(b bar) {
	halo := fmt.Sprintf(` font-size="11" stroke="%s" stroke-width="4" paint-order="stroke" stroke-linejoin="round"`, surface)
	p.text(b.x+b.width/2, p.y(b.value)-4, "middle", ink, halo, short(b.value))
}

// legend names the series above the panel; about 7 px per letter.
func (p panel) legend() {
	if len(p.series) < 2 {
		return
	}
	x := float64(left)
	for i, s := range p.series {
		fmt.Fprintf(p.out, `<rect x="%.1f" y="38" width="11" height="11" rx="2" fill="%s"/>`+"\n", x, colour(i))
		p.text(x+17, 48, "start", ink, "", s.name)
		x += 40 + 7*float64(len(s.name))
	}
}

// drawLines returns the names of the lines, to stand at their ends.
func (p panel) drawLines() []label {
	var names []label
	for i, s := range p.series {
		var points []string
		end := math.NaN()
		for group, v := range s.values {
			if math.IsNaN(v) {
				continue
			}
			points = append(points, fmt.Sprintf("%.1f,%.1f", p.middle(group), p.y(v)))
			fmt.Fprintf(p.out, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`+"\n", p.middle(group), p.y(v), colour(i))
			end = v
		}
		if len(points) == 0 {
			continue
		}
		fmt.Fprintf(p.out, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colour(i))
		names = append(names, label{p.y(end), s.name + " " + short(end), colour(i)})
	}
	return names
}

// label is a text in the right margin.
type label struct {
	y          float64
	text, fill string
}

// spread moves labels apart that would lie upon each other; the lowest stays.
func spread(labels []label) []label {
	apart := slices.Clone(labels)
	slices.SortStableFunc(apart, func(a, b label) int { return cmp.Compare(b.y, a.y) })
	for i := 1; i < len(apart); i++ {
		apart[i].y = min(apart[i].y, apart[i-1].y-labelHeight)
	}
	return apart
}
