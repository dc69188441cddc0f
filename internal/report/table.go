package report

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Column of a table. Text is cut to Max characters where that is set.
type Column struct {
	Title string
	Right bool
	Max   int
}

// WriteTable writes rows under a heading, aligned. A row with no cells is a
// rule. Nothing a user named can move the cursor: what is not printable is
// written escaped.
func WriteTable(w io.Writer, columns []Column, rows [][]string) error {
	width := make([]int, len(columns))
	cells := make([][]string, 0, len(rows)+1)
	head := make([]string, len(columns))
	for i, c := range columns {
		head[i] = c.Title
		width[i] = utf8.RuneCountInString(c.Title)
	}
	cells = append(cells, head)
	for _, row := range rows {
		line := make([]string, len(row))
		for i, text := range row {
			line[i] = Plain(text, columns[i].Max)
			width[i] = max(width[i], utf8.RuneCountInString(line[i]))
		}
		cells = append(cells, line)
	}
	var b strings.Builder
	for _, row := range cells {
		if len(row) == 0 {
			for i, n := range width {
				b.WriteString(gap(i) + strings.Repeat("-", n))
			}
			b.WriteByte('\n')
			continue
		}
		b.WriteString(strings.TrimRight(tableLine(columns, width, row), " ") + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("cannot write table: %w", err)
	}
	return nil
}

func tableLine(columns []Column, width []int, row []string) string {
	var b strings.Builder
	for i, text := range row {
		pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(text))
		if columns[i].Right {
			b.WriteString(gap(i) + pad + text)
		} else {
			b.WriteString(gap(i) + text + pad)
		}
	}
	return b.String()
}

func gap(column int) string {
	if column == 0 {
		return ""
	}
	return "  "
}

// Plain makes text safe for a terminal and cuts it to most characters (0: any
// number); a cut shows as an ellipsis.
func Plain(text string, most int) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) && r != utf8.RuneError {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	out := []rune(b.String())
	if most > 0 && len(out) > most {
		out = append(out[:most-1], '…')
	}
	return string(out)
}
