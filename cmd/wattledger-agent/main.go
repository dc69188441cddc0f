// Command wattledger-agent meters one node: it follows the node's meters, keeps
// what jobs hold, and delivers the books to the aggregator.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/wattledger/wattledger/internal/version"
)

const usage = `wattledger-agent meters this node and books its energy.

  wattledger-agent --config FILE [--aggregator URL] [--cluster NAME] [--node NAME]
  wattledger-agent check [--config FILE]       which meters were found, which are missing, and why
  wattledger-agent check-config [--config FILE]
  wattledger-agent job begin --id 71001 --project P --user U --gpus 0,1 [--cpus 0-31] [--exclusive] [--restart 0] [--submit UNIX_MS] [--socket PATH]
  wattledger-agent job end   --id 71001 [--socket PATH]
  wattledger-agent version

A GPU may be shared: --gpus 0:50%,1:12.5%. A job that names neither GPUs nor CPUs holds the node.
Exit codes: 0 fine, 1 it failed or the answer is no, 2 usage or configuration, 3 fenced: another
agent has taken over this node's name, 4 the GPU driver was replaced: start again (systemd does).
`

// Exit codes.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
	exitFenced = 3
	exitDriver = 4
)

// errUsage: the command line or the configuration is wrong; the words were
// printed.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	word := ""
	if len(args) > 0 {
		word = args[0]
	}
	var err error
	switch word {
	case "check":
		err = checkCommand(ctx, args[1:])
	case "check-config":
		err = checkConfigCommand(args[1:])
	case "job":
		err = jobCommand(args[1:])
	case "version", "--version":
		fmt.Println("wattledger-agent", version.String())
	case "help", "--help", "-h":
		fmt.Print(usage)
	default:
		err = daemonCommand(ctx, args)
	}
	return code(err)
}
