// Records what Go's text/template, with the functions that Docker adds, makes of templates:
//
//	go run main.go < recorded.json > new.json && mv new.json recorded.json
//
// To try another template, add {"template": "..."} to the cases and record again. Values have the
// types that Docker's Go structs have: whole numbers are ints, others float64.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
)

func conv(v any) any {
	switch x := v.(type) {
	case json.Number:
		if i, err := x.Int64(); err == nil {
			return int(i)
		}
		f, _ := x.Float64()
		return f
	case []any:
		for i := range x {
			x[i] = conv(x[i])
		}
		return x
	case map[string]any:
		for k := range x {
			x[k] = conv(x[k])
		}
		return x
	}
	return v
}

var funcs = template.FuncMap{
	"json": func(v any) string {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(v)
		return strings.TrimSpace(b.String())
	},
	"split": strings.Split,
	"join": func(elems any, sep string) string {
		switch x := elems.(type) {
		case []string:
			return strings.Join(x, sep)
		case []any:
			var s []string
			for _, e := range x {
				s = append(s, fmt.Sprint(e))
			}
			return strings.Join(s, sep)
		}
		return ""
	},
	"title": strings.Title, "lower": strings.ToLower, "upper": strings.ToUpper,
	"pad": func(s string, p, q int) string {
		if s == "" {
			return s
		}
		return strings.Repeat(" ", p) + s + strings.Repeat(" ", q)
	},
	"truncate": func(s string, n int) string {
		if len(s) < n {
			return s
		}
		return s[:n]
	},
}

type testCase struct {
	Template string  `json:"template"`
	Output   *string `json:"output,omitempty"`
	Error    string  `json:"error,omitempty"`
}

func main() {
	var recorded struct {
		Data  json.RawMessage `json:"data"`
		Cases []testCase      `json:"cases"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&recorded); err != nil {
		panic(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(recorded.Data))
	decoder.UseNumber()
	var data any
	if err := decoder.Decode(&data); err != nil {
		panic(err)
	}
	data = conv(data)
	fmt.Printf("{\n\"data\": %s,\n\"cases\": [\n", recorded.Data)
	for i, c := range recorded.Cases {
		c.Output, c.Error = nil, ""
		t, err := template.New("").Funcs(funcs).Parse(c.Template)
		if err == nil {
			var b bytes.Buffer
			err = t.Execute(&b, data)
			output := b.String()
			c.Output = &output
		}
		if err != nil {
			c.Output, c.Error = nil, err.Error()
		}
		var line bytes.Buffer
		encoder := json.NewEncoder(&line)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(c)
		comma := ","
		if i == len(recorded.Cases)-1 {
			comma = ""
		}
		fmt.Println(strings.TrimSpace(line.String()) + comma)
	}
	fmt.Print("]\n}\n")
}
