# Simulated pools and miners. deploy/compose.yml builds it, from the root of the source.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /out/usr/bin/practice ./demo/practice

FROM scratch
COPY --from=build /out/usr /usr
USER 65532:65532
ENTRYPOINT ["/usr/bin/practice"]
