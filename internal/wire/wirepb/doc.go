// Package wirepb is what protoc-gen-go and protoc-gen-go-vtproto make of
// wire.proto. Only package wire uses it; it promises nothing.
package wirepb
