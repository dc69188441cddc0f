package main

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"

	"github.com/wattledger/wattledger/internal/auth"
	"github.com/wattledger/wattledger/internal/config"
)

func guardOf(c *config.Aggregator) (*auth.Guard, error) {
	if c.TokensFile == "" {
		return auth.Everybody(), nil
	}
	return auth.Load(c.TokensFile)
}

// tokensAreFine names the faults of the tokens with those of the configuration.
func tokensAreFine(c *config.Aggregator) error {
	_, err := guardOf(c)
	return err
}

// certificate is one that can be read again while connections are served; nil
// is none.
type certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
}

func certificateOf(c *config.Aggregator) (*certificate, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	cert := &certificate{certFile: c.CertFile, keyFile: c.KeyFile}
	return cert, cert.reload()
}

func (c *certificate) reload() error {
	if c == nil {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("cannot read the certificate: %w", err)
	}
	c.current.Store(&pair)
	return nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

func (c *certificate) scheme() string {
	if c == nil {
		return "http"
	}
	return "https"
}
