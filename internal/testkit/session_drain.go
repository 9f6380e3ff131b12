package testkit

import (
	"fmt"
)

func JobLine(id string, clean bool) string {
	return fmt.Sprintf(`{"id":null,"method":"mining.notify","params":["%s","00","01","02",[],"20000000","1d00ffff","5f000000",%v]}`, id, clean)
}

func ShareLine(id, job string) string {
	return fmt.Sprintf(`{"id":%s,"method":"mining.submit","params":["alice.1","%s","0000000000000001","5f000000","00000000"]}`, id, job)
}
