package ipmi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/wattledger/wattledger/collector"
)

// Mends. The device gives whoever may write to it all the powers of the
// controller: its group is for the agent alone.
const (
	mendDriver = "modprobe -a ipmi_devintf ipmi_si && printf 'ipmi_devintf\\nipmi_si\\n' > /etc/modules-load.d/wattledger-ipmi.conf"
	mendGroup  = `printf 'KERNEL=="ipmi[0-9]*", GROUP="wattledger", MODE="0660"\n' > /etc/udev/rules.d/70-wattledger-ipmi.rules` +
		" && udevadm control --reload && udevadm trigger --subsystem-match=ipmi"
	mendSource    = "set sources.ipmi.enabled: false, and read the node through sources.redfish if the controller has it"
	mendPassword  = "set sources.ipmi.user and sources.ipmi.password_file to an account of the controller with the privilege user"
	mendPrivilege = "set sources.ipmi.privilege to operator (else administrator), and give the account that privilege"
	mendSilence   = "see that the controller answers: ipmitool mc info (in a node), ipmitool -I lanplus -C 3 -H HOST -U USER -f FILE mc info (from outside)"
	mendMeasure   = "switch the measurement on: ipmitool dcmi power activate"
)

// Probe asks once and says what stands in the way and what mends it. It waits
// for a poll in progress to end.
func (s *Source) Probe(ctx context.Context) []collector.Missing {
	if err := s.lock(ctx); err != nil {
		return []collector.Missing{{Meter: s.scope.Name, Why: "a read of the controller does not end", Mend: mendSilence}}
	}
	defer s.unlock()
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	_, err := s.power(ctx)
	if err == nil {
		return nil
	}
	return []collector.Missing{{Meter: s.scope.Name, Why: err.Error(), Mend: s.mend(err)}}
}

// mend is what cures an error of dialling or asking, "" where nobody can say.
func (s *Source) mend(err error) string {
	var code *CodeError
	var quiet *failure
	switch {
	case errors.Is(err, errInactive):
		return mendMeasure
	case errors.As(err, &code) && code.unknown():
		return mendSource
	case errors.As(err, &code) && code.Code == 0xd4:
		return mendPrivilege
	case errors.As(err, &code):
		return ""
	case s.o.Host == "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.ENODEV)):
		return mendDriver
	case s.o.Host == "" && errors.Is(err, fs.ErrPermission):
		return mendGroup
	case s.o.Host != "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
		return fmt.Sprintf("install -m 0400 -o wattledger PASSWORD %s", s.o.PasswordFile)
	case errors.As(err, &quiet) && quiet.text == noAnswer:
		return mendSilence
	case s.o.Host != "":
		return mendPassword
	default:
		return ""
	}
}
