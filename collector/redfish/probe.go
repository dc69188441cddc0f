package redfish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/wattledger/wattledger/collector"
)

const (
	mendAddress = "see that it answers: curl -k %s/redfish/v1/ ; else set sources.redfish.url. A baseboard's controller (169.254.0.17) needs an address of its" +
		" network on the node's side: ip address add 169.254.0.18/16 dev usb0"
	mendAccount = "set sources.redfish.user and sources.redfish.password_file to an account of the controller with the role ReadOnly"
	mendTrust   = "set sources.redfish.ca_file to the authority of the controller's certificate, or sources.redfish.fingerprint"
	mendSystem  = "set sources.redfish.system or sources.redfish.chassis to the id of this node's"
	mendSlow    = "set sources.redfish.timeout to more, or sources.redfish.every"
)

// Probe looks for meters, reads each once, and says what stands in the way and
// what mends it. It waits for a poll in progress to end.
func (s *Source) Probe(ctx context.Context) []collector.Missing {
	if err := s.lock(ctx); err != nil {
		return []collector.Missing{{Meter: s.Name(), Why: "a read of the controller does not end", Mend: s.mend(&failure{kind: unreachable})}}
	}
	defer s.unlock()
	missing := func(name string, err error) collector.Missing {
		return collector.Missing{Meter: name, Why: err.Error(), Mend: s.mend(err)}
	}
	s.meters = nil // what was met on the way is told again
	problems, err := s.ready(ctx)
	if err != nil {
		s.hangUp(answers(err))
		return []collector.Missing{missing(s.Name(), err)}
	}
	var out []collector.Missing
	for _, p := range problems {
		out = append(out, missing(p.name, p.err))
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	for i := range s.meters {
		if _, err := s.meters[i].read(ctx, s.link, s.o.Now); err != nil {
			out = append(out, missing(s.meters[i].scope.Name, err))
		}
	}
	return out
}

// mend is what cures an error, "" where nobody can say.
func (s *Source) mend(err error) string {
	switch kindOf(err) {
	case unreachable:
		return fmt.Sprintf(mendAddress, strings.TrimSuffix(s.o.URL, "/"))
	case denied:
		return mendAccount
	case slow:
		return mendSlow
	case distrusted:
		if sum := presented(err); sum != "" {
			return mendTrust + ", after comparing it with the controller's own display, to " + sum
		}
		return mendTrust
	default:
	}
	switch {
	case errors.Is(err, errScope):
		return mendSystem
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return "give the agent's user the file that is named: chgrp wattledger FILE && chmod 0440 FILE"
	default:
		return ""
	}
}
