package intake_test

import (
	"testing"

	"github.com/wattledger/wattledger/internal/ledger/sqlite"
)

// BenchmarkIntakeSQLite is BenchmarkIntake on real books: durable commits.
func BenchmarkIntakeSQLite(b *testing.B) {
	led, err := sqlite.Open(b.TempDir(), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = led.Close() }()
	benchmarkIntake(b, led)
}
