// What `docker compose config` does: loads Compose files and prints the project, or says what is wrong with them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	profile := flag.String("profile", "*", "profile to enable; * is all of them")
	flag.Parse()
	options, err := cli.NewProjectOptions(flag.Args(), cli.WithProfiles([]string{*profile}), cli.WithName("tallystream"))
	if err == nil {
		var project, problem = options.LoadProject(context.Background())
		if err = problem; err == nil {
			var text []byte
			if text, err = project.MarshalJSON(); err == nil {
				fmt.Println(string(text))
				return
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
