package version

import (
	"runtime/debug"
	"testing"
)

func TestOf(t *testing.T) {
	f := func(name string, info debug.BuildInfo, want string) {
		t.Helper()
		if got := of(&info); got != want {
			t.Errorf("%s: got %q; want %q", name, got, want)
		}
	}
	commit := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123"}}
	dirty := append([]debug.BuildSetting{{Key: "vcs.modified", Value: "true"}}, commit...)

	f("nothing recorded", debug.BuildInfo{}, "devel")
	f("a tag", debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: commit}, "v1.2.3")
	f("a commit", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: commit}, "devel-0123456789ab")
	f("a changed tree", debug.BuildInfo{Settings: dirty}, "devel-0123456789ab+dirty")
	f("a short commit", debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}}}, "devel-abc")
}

func TestStringIsNeverEmpty(t *testing.T) {
	if String() == "" {
		t.Error("String() is empty")
	}
}
