// Package packaging holds what a distribution package installs beside the
// binaries: systemd units, users, folders and example settings. It has no code;
// its test checks the units with systemd's own tools.
package packaging
