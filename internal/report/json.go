package report

import (
	"encoding/json"
	"fmt"
	"io"
)

// WriteJSON writes a document the one way documents are written: two spaces of
// indent, keys in the order of the schema, a newline at the end.
func WriteJSON(w io.Writer, document any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(document); err != nil {
		return fmt.Errorf("cannot write JSON: %w", err)
	}
	return nil
}
