// Package energy holds the units the books are kept in, the words they are
// written with (class, use, grade), and the few operations that may touch a
// quantity of energy: the difference of two counter readings, the integral of
// power over time, and exact division.
//
// Everything is integer arithmetic; a floating point number is for showing and
// there is no way back from one. The package imports the standard library only.
package energy
