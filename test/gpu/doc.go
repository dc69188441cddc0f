// Package gpu checks what is read of a real GPU, on machines that have one.
package gpu
