package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestStagesStopInOrder, whether they are asked to or one of them fails, and
// however long one takes.
func TestStagesStopInOrder(t *testing.T) {
	boom := errors.New("boom")
	for name, fails := range map[string]string{"asked": "", "the first fails": "a", "a later one fails": "d"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var ended []string
				work := func(id string, takes time.Duration) task {
					return func(ctx context.Context) error {
						var err error
						if id == fails {
							time.Sleep(time.Minute)
							err = boom
						} else {
							<-ctx.Done()
							time.Sleep(takes)
						}
						mu.Lock()
						defer mu.Unlock()
						ended = append(ended, id)
						return err
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				began := time.Now()
				err := inStages(ctx, []task{work("a", 0)}, []task{work("b", 3*time.Second), work("c", time.Second)}, []task{work("d", 0)})
				if fails != "" && (!errors.Is(err, boom) || time.Since(began) > 2*time.Minute) || fails == "" && err != nil {
					t.Errorf("it ended with %v after %v", err, time.Since(began))
				}
				want := []string{"a", "c", "b", "d"}
				if fails == "d" {
					want = []string{"d", "a", "c", "b"}
				}
				if !slices.Equal(ended, want) {
					t.Errorf("stopped in the order %v; want %v", ended, want)
				}
				synctest.Wait()
			})
		})
	}
}
