package hook

import "time"

// deadline of one exchange on the socket.
func deadline() time.Time {
	return time.Now().Add(ioTimeout) //nolint:forbidigo // a socket deadline books nothing
}
