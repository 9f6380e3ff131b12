// Package strictjson reads JSON files that people write by hand, and reports the line
// and column of a mistake.
//
// The decoders of encoding/json stop at the first mistake, accept a key that
// is given twice, and cannot say where an unknown key is. This package has a
// Reader, which goes through the tokens of a text of any size without keeping
// them, and Parse, which builds a tree of nodes that remember their lines. A
// text in UTF-8 may begin with a byte order mark.
//
// The caller decides what a text must contain: this package accepts every valid JSON
// text, even if a key is given twice. It has no goroutines and no global state. A
// Reader belongs to one goroutine. A tree refers to the text that it was read from,
// which must not be changed while the tree is in use.
package strictjson
