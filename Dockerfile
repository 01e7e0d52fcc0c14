# make image builds ./tinylb first.
FROM scratch
COPY tinylb /tinylb
ENTRYPOINT ["/tinylb"]
