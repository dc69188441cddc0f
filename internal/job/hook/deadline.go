package hook

import "time"

// deadline of one exchange on the socket.
func deadline(in time.Duration) time.Time {
	return time.Now().Add(in) //nolint:forbidigo // a socket deadline books nothing
}
