package accounting

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/ledger"
)

func TestParseProjects(t *testing.T) {
	day := func(s string) int64 {
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return at.UnixMilli()
	}
	f := func(name, text string, want ...ledger.ProjectFacts) {
		t.Helper()
		got, err := ParseProjects([]byte(text))
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
	}
	f("all columns", "project,title,pi,organization,parent,start,end\nEUHPC_A01,\"Proteins, folded\",M. Curie,ENS,eurohpc,2026-01-01,2026-12-31\n",
		ledger.ProjectFacts{
			Name: "EUHPC_A01", Title: "Proteins, folded", Investigator: "M. Curie", Organization: "ENS", Parent: "eurohpc",
			StartMS: day("2026-01-01"), EndMS: day("2027-01-01"),
		})
	f("another order, semicolons, a byte order mark, DOS lines", "\ufeffTitle; Project ;Investigator\r\n\"a \"\"quoted\"\" one\";P1;\r\n;P 2;Ünï\r\n",
		ledger.ProjectFacts{Name: "P1", Title: `a "quoted" one`}, ledger.ProjectFacts{Name: "P 2", Investigator: "Ünï"})
	f("short lines", "project,title\nP\n", ledger.ProjectFacts{Name: "P"})
	f("the head alone", "project\n")
	bad := func(text string, want ...string) {
		t.Helper()
		_, err := ParseProjects([]byte(text))
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v; want it to say %q", text, err, w)
			}
		}
	}
	bad("", "cannot read the line that names the columns")
	bad("name,title\nP,x\n", `"name" is no column that is known`, "no column is named project")
	bad("project,pi,investigator\n", "column investigator is there twice")
	bad("project,start,end\nP,1.1.2026,\n,2026-01-01,\nQ,2026-02-01,2026-01-31\nQ,,\nR,,\nR,,\nS,a,b,c\n",
		`line 2: start: "1.1.2026" is not a day`, "line 3: no project is named", "line 4: the grant ends before it starts",
		`line 7: project "R" is in line 6 already`, "line 8: 4 fields for 3 columns")
	bad("project,title\nP,\"open\nQ,x\n", "line 3")
	if _, err := ParseProjects([]byte("project,start\nP,2026-01-01\nQ,soon\n")); err == nil || strings.Contains(err.Error(), "line 2") {
		t.Errorf("err = %v; want line 3 alone", err)
	}
}
