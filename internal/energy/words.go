package energy

import "fmt"

// Class says what kind of hardware burnt the energy.
type Class uint8

// Classes in the order of reports. Other is a remainder: what a node meter saw
// beyond the meters inside it. Node is a node metered only as a whole.
const (
	GPU Class = iota
	CPU
	Memory
	Other
	Node
	NumClasses = 5
)

// String is the class as reports and labels spell it.
func (c Class) String() string { return word(int(c), classWords()) }

// ParseClass reads what String writes.
func ParseClass(s string) (Class, error) {
	i, err := parseWord("class", s, classWords())
	return Class(i), err
}

func classWords() []string { return []string{"gpu", "cpu", "memory", "other", "node"} }

// Use says what the energy served.
type Use uint8

// Uses: Busy (held by a job and working), Held (held by a job, doing nothing),
// Idle (held by nobody), System (service, operating system), Unknown (metered,
// owner not known).
const (
	Busy Use = iota
	Held
	Idle
	System
	Unknown
	NumUses = 5
)

// String is the use as reports and labels spell it.
func (u Use) String() string { return word(int(u), useWords()) }

// ParseUse reads what String writes.
func ParseUse(s string) (Use, error) {
	i, err := parseWord("use", s, useWords())
	return Use(i), err
}

func useWords() []string { return []string{"busy", "held", "idle", "system", "unknown"} }

// Grade says how well the amount is known. A larger grade is a worse one.
type Grade uint8

// Grades: Counter (difference of a hardware energy counter), Sampled (integral
// of power readings), Bridged (energy exact, its spread over time or owners
// assumed), Modelled (an assumption).
const (
	Counter Grade = iota
	Sampled
	Bridged
	Modelled
	NumGrades = 4
)

// String is the grade as reports and labels spell it.
func (g Grade) String() string { return word(int(g), gradeWords()) }

// Worse gives the worse of two grades.
func (g Grade) Worse(o Grade) Grade { return max(g, o) }

func gradeWords() []string { return []string{"counter", "sampled", "bridged", "modelled"} }

func word(i int, words []string) string {
	if i < len(words) {
		return words[i]
	}
	return fmt.Sprintf("invalid(%d)", i)
}

func parseWord(what, s string, words []string) (int, error) {
	for i, w := range words {
		if w == s {
			return i, nil
		}
	}
	return 0, fmt.Errorf("cannot read %q as a %s: it is one of %v", s, what, words)
}
