# docker build --build-arg VERSION="$(git describe --tags --always --dirty)" -t stratumswitcher .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$VERSION" -o /out/usr/bin/stratumSwitcher .
RUN ./scripts/licences.sh /out/usr/share/doc/stratumswitcher/licences
# This is empty. An upgrade writes its state there.
RUN mkdir -p /out/var/lib/stratumSwitcher

FROM scratch
COPY --from=build /out/usr /usr
COPY --from=build --chown=65532:65532 /out/var/lib/stratumSwitcher /var/lib/stratumSwitcher
# These authorities may have signed the certificates of pools with TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY config.default.json /usr/share/stratumSwitcher/config.default.json
# The user is given by number, because the image has no list of users. An upgrade on
# SIGUSR2 writes into the working directory.
USER 65532:65532
WORKDIR /var/lib/stratumSwitcher
EXPOSE 18080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["/usr/bin/stratumSwitcher", "-config=/etc/stratumSwitcher/config.json", "-healthcheck"]
ENTRYPOINT ["/usr/bin/stratumSwitcher", "-config=/etc/stratumSwitcher/config.json", "-logtostderr"]
CMD ["-v=1"]
