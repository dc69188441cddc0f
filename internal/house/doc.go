// Package house holds the rules of this code base that are tests: who may import
// whom, that every package says what it is, that nothing registers itself behind
// the reader's back. It has no code of its own.
//
// Most rules are data at the top of a test file. To bend one, change the data
// in the same commit and say why beside it.
package house
