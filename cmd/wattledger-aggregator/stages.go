package main

import (
	"context"
	"errors"
	"sync"
)

// task works until its context ends.
type task func(ctx context.Context) error

// inStages runs all tasks at once and stops them stage by stage: those of the
// first when ctx ends or a task fails, those of the next when all before have
// ended. It returns when all have, with their errors.
func inStages(ctx context.Context, stages ...[]task) error {
	first, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	var errs []error
	before := first.Done()
	for _, tasks := range stages {
		// Not first, which would end them all at once.
		stage, end := context.WithCancel(context.WithoutCancel(ctx))
		go func(before <-chan struct{}) { <-before; end() }(before)
		var wg sync.WaitGroup
		for _, t := range tasks {
			wg.Go(func() {
				if err := t(stage); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					stop()
				}
			})
		}
		ended := make(chan struct{})
		go func(before <-chan struct{}) {
			<-before
			wg.Wait()
			close(ended)
		}(before)
		before = ended
	}
	<-before
	return errors.Join(errs...)
}
