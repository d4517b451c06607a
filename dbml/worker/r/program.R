# The R end of dbml/worker/r: takes a request, does it, answers.  wire.py says in which bytes.
#
# Scripts run in the global environment, which is emptied between runs: so a model's formula, or a function of the
# script, drags no data along when it is serialized.  All that is ours lives in the environment of this call of local().

local(envir = new.env(parent = baseenv()), expr = {
  ends <- commandArgs(trailingOnly = TRUE)
  from <- paste0("/dev/fd/", ends[1L])
  to <- paste0("/dev/fd/", ends[2L])
  called <- paste0("/dev/fd/", ends[3L])  # a file that is no longer empty when the call has come
  own <- Sys.getpid()
  most <- 2^26  # elements that are written at once: writeBin() takes no more than 2^31 bytes

  NOTHING <- 0L; LOGICAL <- 1L; INTEGER <- 2L; DOUBLE <- 3L; CHARACTER <- 4L; RAW <- 5L; LIST <- 6L; NAMED <- 7L
  CLASSED <- 8L; RAWS <- 9L; SLICES <- 10L; FRAME <- 11L; ARRAY <- 12L; INTEGER64 <- 13L

  # ---------------------------------------------------------------- reading

  # The pipe is opened anew for each message: the script may close all connections.
  hear <- function() {
    con <- file(from, "rb", raw = TRUE)
    on.exit(close(con))
    read_value(con)
  }

  read_value <- function(con) {
    tag <- readBin(con, "integer", 1L, size = 1L)
    if (length(tag) == 0L) quit("no", runLast = FALSE)  # the satellite is gone
    switch(tag + 1L,
      NULL,
      readBin(con, "logical", read_count(con)),
      readBin(con, "integer", read_count(con)),
      readBin(con, "double", read_count(con)),
      read_character(con),
      readBin(con, "raw", read_count(con)),
      lapply(seq_len(read_count(con)), function(i) read_value(con)),
      { labels <- read_value(con); value <- read_value(con); names(value) <- labels; value },
      read_classed(con),
      read_slices(con),
      read_slices(con),
      read_frame(con),
      { dims <- read_value(con); value <- read_value(con); dim(value) <- dims; value }
    )
  }

  read_count <- function(con) readBin(con, "integer", 1L)

  read_character <- function(con) {
    lengths <- readBin(con, "integer", read_count(con))
    missing <- lengths < 0L
    lengths[missing] <- 0L
    content <- readBin(con, "raw", sum(as.double(lengths)))
    value <- if (length(lengths)) readChar(content, lengths, useBytes = TRUE) else character()
    Encoding(value) <- "UTF-8"
    value[missing] <- NA_character_
    value
  }

  read_classed <- function(con) {
    kind <- readBin(con, "integer", 1L, size = 1L)
    as_kind(kind, read_value(con))
  }

  as_kind <- function(kind, value) {
    switch(kind,
      structure(value, class = "Date"),
      structure(value, class = c("POSIXct", "POSIXt"), tzone = "UTC"),
      structure(value, class = "difftime", units = "secs"),
      structure(value, class = c("hms", "difftime"), units = "secs")
    )
  }

  read_slices <- function(con) {
    lengths <- readBin(con, "integer", read_count(con))
    flat <- read_value(con)
    ends <- cumsum(pmax(as.double(lengths), 0))
    starts <- ends - pmax(lengths, 0L)
    lapply(seq_along(lengths), function(i) if (lengths[i] >= 0L) flat[starts[i] + seq_len(lengths[i])])
  }

  read_frame <- function(con) {
    rows <- read_count(con)
    labels <- read_value(con)
    columns <- lapply(seq_along(labels), function(i) read_value(con))
    structure(columns, names = labels, class = "data.frame", row.names = .set_row_names(rows))
  }

  # ---------------------------------------------------------------- writing
  # prepare() looks at the whole of a value and returns a function that writes it: what cannot be carried is refused
  # before the first byte is out.

  say <- function(...) send(prepare(list(...), "a message"))

  send <- function(write) {
    force(write)  # which may run the script, and the script may close all connections
    con <- file(to, "wb", raw = TRUE)
    on.exit(close(con))
    write(con)
    flush(con)
  }

  refuse <- function(message, name, type, hint = NULL) {
    stop(structure(class = c("dbml_refused", "error", "condition"),
                   list(message = message, call = NULL, name = name, type = type, hint = hint)))
  }

  write_tag <- function(con, tag) writeBin(as.integer(tag), con, size = 1L)
  write_count <- function(con, n) writeBin(as.integer(n), con)

  write_vector <- function(con, tag, value) {
    write_tag(con, tag)
    write_count(con, length(value))
    if (length(value) <= most) return(writeBin(value, con))
    for (start in seq(1, length(value), by = most)) writeBin(value[start:min(start + most - 1, length(value))], con)
  }

  prepare <- function(value, name) {
    force(name)
    if (is.null(value)) return(function(con) write_tag(con, NOTHING))
    if (is.data.frame(value)) return(prepare_frame(value, name))
    if (!inherits(value, "POSIXlt") && !is.null(names(value)) && length(dim(value)) < 2L) {
      labels <- utf8(names(value), name)
      names(value) <- NULL
      write <- prepare(value, name)
      return(function(con) { write_tag(con, NAMED); write_character(con, labels); write(con) })
    }
    if (is.list(value) && !inherits(value, "POSIXlt")) {
      parts <- lapply(value, prepare, name)
      return(function(con) { write_tag(con, LIST); write_count(con, length(parts)); for (write in parts) write(con) })
    }
    prepare_vector(value, name)
  }

  prepare_vector <- function(value, name) {
    if (inherits(value, "POSIXlt")) value <- as.POSIXct(value)
    if (is.factor(value)) value <- as.character(value)
    if (inherits(value, "integer64")) {
      value <- as.vector(unclass(value))
      return(function(con) write_vector(con, INTEGER64, value))
    }
    if (inherits(value, "Date")) return(prepare_classed(1L, as.double(value)))
    if (inherits(value, "POSIXct")) {
      zone <- attr(value, "tzone")[1L]
      zoned <- !is.null(zone) && !zone %in% c("", "UTC", "GMT", "Etc/UTC", "Etc/GMT", "UCT", "Zulu")
      return(prepare_classed(if (zoned) 5L else 2L, as.double(value)))
    }
    if (inherits(value, "difftime")) {
      clock <- inherits(value, "hms")
      if (clock) class(value) <- "difftime"
      return(prepare_classed(if (clock) 4L else 3L, as.double(value, units = "secs")))
    }
    if (is.object(value) && isS4(value)) refuse_type(name, class(value)[1L])
    switch(typeof(value),
      logical = , integer = , double = , raw = {
        tag <- switch(typeof(value), logical = LOGICAL, integer = INTEGER, double = DOUBLE, raw = RAW)
        value <- as.vector(unclass(value))
        function(con) write_vector(con, tag, value)
      },
      character = {
        value <- utf8(as.vector(unclass(value)), name)
        function(con) write_character(con, value)
      },
      refuse_type(name, if (typeof(value) == "closure") "function" else class(value)[1L])
    )
  }

  refuse_type <- function(name, type) {
    refuse(paste0(name, " holds ", type, ", which no PostgreSQL type carries"), name, type,
           "convert it in the script: as.character(value), serialize(value, NULL), or one column for each part")
  }

  prepare_classed <- function(kind, value) {
    value <- as.vector(value)
    function(con) { write_tag(con, CLASSED); write_tag(con, kind); write_vector(con, DOUBLE, value) }
  }

  utf8 <- function(value, name) {
    marked <- Encoding(value)
    if (any(!validUTF8(value) & marked != "latin1")) {
      refuse(paste0(name, " holds bytes that are not UTF-8"), name, "character",
             "Encoding(x) <- \"latin1\" says what they are, charToRaw(x) makes bytes of them")
    }
    if (any(marked == "bytes")) Encoding(value)[marked == "bytes"] <- "UTF-8"
    enc2utf8(value)
  }

  write_character <- function(con, value) {
    lengths <- nchar(value, "bytes")
    lengths[is.na(value)] <- -1L
    write_vector(con, CHARACTER, lengths)
    writeBin(value[lengths > 0L], con, useBytes = TRUE)  # with a zero after each
  }

  # ---------------------------------------------------------------- data frames

  quoted <- function(label) paste0("column \"", label, "\"")

  prepare_frame <- function(value, name) {
    rows <- .row_names_info(value, 2L)
    labels <- names(value)
    if (is.null(labels)) labels <- character()
    labels <- utf8(labels, name)
    labels[is.na(labels)] <- "NA"
    parts <- lapply(seq_along(labels), function(i) prepare_column(.subset2(value, i), quoted(labels[i]), rows))
    function(con) {
      write_tag(con, FRAME)
      write_count(con, rows)
      write_character(con, labels)
      for (write in parts) write(con)
    }
  }

  prepare_column <- function(value, name, rows) {
    if (inherits(value, "POSIXlt")) value <- as.POSIXct(value)
    if (length(dim(value)) > 1L) {
      type <- class(value)[1L]
      refuse(paste0(name, " is itself a ", type), name, type, "do.call(data.frame, OutputDataSet) makes columns of its parts")
    }
    if (is.list(value)) return(prepare_list_column(unclass(value), name))
    if (is.null(value)) refuse_type(name, "NULL")
    names(value) <- NULL
    prepare_vector(value, name)
  }

  # The kind of one element of a list column; the elements of a column must share it.
  kind_of <- function(value) {
    if (is.list(value) && !inherits(value, "POSIXlt")) return("list")
    for (class in c("factor", "Date", "POSIXct", "POSIXlt", "hms", "difftime", "integer64")) {
      if (inherits(value, class)) return(class)
    }
    typeof(value)
  }

  prepare_list_column <- function(value, name) {
    null <- vapply(value, is.null, NA)
    kinds <- vapply(value[!null], kind_of, "")
    unknown <- kinds == "logical" & vapply(value[!null], function(x) kind_of(x) == "logical" && all(is.na(x)), NA)
    found <- unique(kinds[!unknown])
    if (identical(found, "list")) return(prepare_lists_of_raw(value, name))
    if ("list" %in% found) refuse_type(name, "lists in a list")
    if (setequal(found, c("integer", "double"))) found <- "double"
    if (setequal(found, c("character", "factor"))) found <- "character"
    if (length(found) > 1L) {
      refuse(paste0(name, " holds a mixture of ", paste(sort(found), collapse = " and "), ", in a list"), name, "list",
             "give all elements of the list one type, or make a column for each")
    }
    if (identical(found, "raw")) {
      null[!null] <- unknown  # NA beside raw vectors
      return(prepare_raws(value, null))
    }
    value[!null] <- lapply(value[!null], function(x) {
      if (is.factor(x)) as.character(x)
      else if (inherits(x, "POSIXlt")) as.POSIXct(x)
      else if (inherits(x, "difftime")) structure(as.double(x, units = "secs"), class = oldClass(x), units = "secs")
      else x
    })
    if (any(vapply(value[!null], function(x) length(dim(x)) > 1L, NA))) {
      parts <- lapply(value, prepare_array, name)
      return(function(con) { write_tag(con, LIST); write_count(con, length(parts)); for (write in parts) write(con) })
    }
    lengths <- ifelse(null, -1L, lengths(value))
    first <- match(FALSE, unknown)
    flat <- unlist(lapply(value[!null], function(x) as.vector(unclass(x))), use.names = FALSE)
    if (is.null(flat)) flat <- logical()
    if (!is.na(first)) {
      if (typeof(flat) == "logical" && !length(flat)) flat <- as.vector(unclass(value[!null][[first]]))
      like <- attributes(value[!null][[first]])[c("class", "units", "tzone")]
      attributes(flat) <- like[!vapply(like, is.null, NA)]
    }
    write <- prepare_vector(flat, name)
    function(con) { write_lengths(con, SLICES, lengths); write(con) }
  }

  # Lists in a list: only as arrays of bytea.
  prepare_lists_of_raw <- function(value, name) {
    parts <- lapply(value, function(inner) {
      if (is.null(inner)) return(function(con) write_tag(con, NOTHING))
      null <- vapply(inner, function(x) is.null(x) || identical(x, NA), NA)
      if (!all(null | vapply(inner, is.raw, NA))) refuse_type(name, "lists in a list")
      prepare_raws(inner, null)
    })
    function(con) { write_tag(con, LIST); write_count(con, length(parts)); for (write in parts) write(con) }
  }

  prepare_raws <- function(value, null) {
    lengths <- ifelse(null, -1L, lengths(value))
    flat <- as.raw(unlist(value[!null], use.names = FALSE))
    function(con) { write_lengths(con, RAWS, lengths); write_vector(con, RAW, flat) }
  }

  prepare_array <- function(value, name) {
    if (is.null(value)) return(function(con) write_tag(con, NOTHING))
    dims <- dim(value)
    dim(value) <- NULL
    dimnames(value) <- NULL
    names(value) <- NULL
    write <- prepare_vector(value, name)
    if (length(dims) < 2L) return(write)
    function(con) { write_tag(con, ARRAY); write_vector(con, INTEGER, dims); write(con) }
  }

  write_lengths <- function(con, tag, lengths) {
    write_tag(con, tag)
    write_count(con, length(lengths))
    writeBin(as.integer(lengths), con)
  }

  # What a script left under a name, as a data frame.
  as_result <- function(value, name) {
    if (is.null(value) || is.data.frame(value)) return(value)
    if (inherits(value, "table")) return(as.data.frame(value, stringsAsFactors = FALSE))
    if (is.raw(value)) return(framed(list(list(as.vector(value))), "c1"))
    if (inherits(value, "POSIXlt")) value <- as.POSIXct(value)
    if (length(dim(value)) > 2L) {
      refuse(paste0(name, " must have one or two dimensions, got ", length(dim(value))), name, "array", "as.data.frame(as.table(x))")
    }
    if (length(dim(value)) == 2L) {
      labels <- colnames(value)
      if (is.null(labels)) labels <- paste0("c", seq_len(ncol(value)))
      columns <- lapply(seq_len(ncol(value)), function(i) as.vector(value[, i]))
      return(structure(columns, names = labels, class = "data.frame", row.names = .set_row_names(nrow(value))))
    }
    if (is.list(value) && (!is.object(value) || inherits(value, "AsIs"))) {
      value <- unclass(value)
      if (is.null(names(value))) {
        if (all(vapply(value, function(x) is.raw(x) || is.null(x) || identical(x, NA), NA))) return(framed(list(value), "c1"))
        names(value) <- paste0("c", seq_along(value))
      }
      value <- lapply(value, function(x) if (is.raw(x)) list(as.vector(x)) else if (inherits(x, "POSIXlt")) as.POSIXct(x) else x)
      return(framed(value, names(value), name))
    }
    if (is.atomic(value) && !isS4(value)) return(framed(list(value), "c1"))
    refuse(paste0(name, " must be a data.frame or what makes one, got ", class(value)[1L]), name, class(value)[1L],
           "OutputDataSet <- data.frame(value = ...), or serialize(value, NULL) for a column of type bytea")
  }

  framed <- function(columns, labels, name = NULL) {
    rows <- unique(lengths(columns))
    if (length(rows) > 1L) {
      refuse(paste0("the columns of ", name, " must have one length, got ", paste(lengths(columns), collapse = ", ")), name, "list",
             "OutputDataSet <- data.frame(...) repeats what is shorter")
    }
    structure(columns, names = labels, class = "data.frame", row.names = .set_row_names(if (length(rows)) rows else 0L))
  }

  # ---------------------------------------------------------------- run

  ask <- function(verb, ...) {
    if (Sys.getpid() != own) {
      stop("run must be used by the script's own process, not by one that it has forked", call. = FALSE)
    }
    flush(stdout())
    arguments <- list(...)
    say("verb", verb, arguments)
    answer <- hear()
    if (answer[[1L]] == "value") return(answer[[2L]])
    stop(structure(class = c(answer[[3L]], "dbml_error", "error", "condition"),
                   list(message = answer[[2L]], call = NULL, sqlstate = answer[[4L]], number = answer[[5L]])))
  }

  single <- function(value, what) {
    if (length(value) != 1L || !is.atomic(value)) {
      stop(what, " must be one value, got ", length(value), " of class ", class(value)[1L], call. = FALSE)
    }
    if (is.factor(value)) as.character(value) else value
  }

  verbs <- list(
    log = function(name, value, step = NULL, description = "") {
      ask("log", name = name, value = single(value, "a metric's value"), step = step)
    },
    log_list = function(name, values, description = "") ask("log_list", name = name, values = as.list(values)),
    log_row = function(name, ..., description = "") {
      values <- list(...)
      if (length(values) == 1L && is.null(names(values)) && is.list(values[[1L]])) values <- values[[1L]]
      ask("log_row", name = name, values = as.list(values))
    },
    log_table = function(name, value, description = "") ask("log_table", name = name, value = as.data.frame(value)),
    log_image = function(name, path = NULL, description = "") {
      if (is.null(path)) {
        path <- copy_plot()
        on.exit(unlink(path))
      }
      ask("log_image", name = name, path = path.expand(path))
    },
    upload_file = function(name, path) ask("upload_file", name = name, path = path.expand(path)),
    tag = function(name, value = "") ask("tag", name = name, value = as.character(single(value, "a tag's value"))),
    progress = function(done, total = NULL) ask("progress", done = done, total = total),
    get_metrics = function(name = NULL) ask("get_metrics", name = name),
    register_model = function(name, model, framework = NULL, framework_version = NULL, signature = NULL, tags = NULL,
                              properties = NULL, description = NULL, alias = NULL) {
      content <- if (is.raw(model)) model else serialize(model, NULL, version = 3L)
      if (is.null(framework) && !is.raw(model)) {
        framework <- "R"
        if (is.null(framework_version)) framework_version <- as.character(getRversion())
      }
      as.list.or.null <- function(x) if (is.null(x)) NULL else as.list(x)
      ask("register_model", name = name, content = content, framework = framework, framework_version = framework_version,
          signature = signature, tags = as.list.or.null(tags), properties = as.list.or.null(properties),
          description = description, alias = alias)
    },
    load_model = function(name) {
      content <- ask("load_model", name = name)
      if (length(content) > 1L && content[2L] == 0x0a && rawToChar(content[1L]) %in% c("X", "B", "A")) unserialize(content)
      else content
    }
  )
  quiet <- c("log", "log_list", "log_row", "log_table", "log_image", "upload_file", "tag", "progress")
  verbs[quiet] <- lapply(verbs[quiet], function(verb) {
    body(verb) <- call("invisible", body(verb))
    verb
  })

  make_run <- function(known) {
    run <- list2env(c(known, verbs), parent = baseenv())
    run$outputs <- list()
    run
  }

  # ---------------------------------------------------------------- plots

  plots <- new.env()

  forget_plots <- function() {
    plots$devices <- character()  # the files of each of ours, by the device's number
    plots$kept <- character()
  }

  open_png <- function(path) {
    if (capabilities("cairo")) grDevices::png(path, width = 800, height = 600, res = 96, type = "cairo")
    else grDevices::png(path, width = 800, height = 600, res = 96)
  }

  open_device <- function(...) {
    prefix <- sprintf("figure-%04d-", length(plots$devices) + 1L)
    opened <- tryCatch({ open_png(file.path(tempdir(), paste0(prefix, "%06d.png"))); TRUE }, error = function(e) FALSE,
                       warning = function(w) FALSE)
    if (!opened) {
      warning("plots are not kept: this R has no png device", call. = FALSE)
      grDevices::pdf(NULL)
    }
    grDevices::dev.control("enable")
    plots$devices[prefix] <- as.character(grDevices::dev.cur())
  }

  pages <- function(prefix = "figure-") {
    sort(list.files(tempdir(), paste0("^", prefix, "[0-9-]*\\.png$")))
  }

  # The plot as it is now, as a file; the page is not kept again at the end.
  copy_plot <- function() {
    current <- grDevices::dev.cur()
    if (current == 1L) stop("no plot is open: plot something, or give the path of a PNG file", call. = FALSE)
    recorded <- grDevices::recordPlot()
    path <- tempfile("plot", fileext = ".png")
    open_png(path)
    grDevices::replayPlot(recorded)
    grDevices::dev.off()
    grDevices::dev.set(current)
    prefix <- utils::tail(names(plots$devices)[plots$devices == as.character(current)], 1L)
    if (length(prefix)) {
      written <- file.size(file.path(tempdir(), pages(prefix))) > 0  # of the page that is open there is no byte yet
      plots$kept <- c(plots$kept, sprintf("%s%06d.png", prefix, sum(written) + 1L))
    }
    path
  }

  take_figures <- function() {
    grDevices::graphics.off()
    found <- pages()
    kept <- setdiff(found, plots$kept)
    content <- lapply(file.path(tempdir(), kept), function(path) readBin(path, "raw", file.size(path)))
    unlink(file.path(tempdir(), found))
    forget_plots()
    content
  }

  # ---------------------------------------------------------------- requests

  script <- NULL
  source <- NULL

  load_script <- function(lines) {
    source <<- srcfilecopy("<script>", lines)
    script <<- parse(text = lines, srcfile = source, keep.source = TRUE)
    NULL
  }

  # The lines of the script that stand on the stack, outermost first.
  script_lines <- function(calls) {
    found <- integer()
    for (call in calls) {
      at <- attr(call, "srcref")
      if (!is.null(at) && identical(attr(at, "srcfile"), source)) found <- c(found, at[1L])
    }
    rle(found)$values
  }

  is_ours <- function(call) is.call(call) && identical(call, quote(eval(script[i], globals)))

  # From the global environment, where the script's own methods are.
  show_value <- function(value) {
    eval(as.call(list(if (isS4(value)) methods::show else print, call("quote", value))), globalenv())
  }

  run_script <- function(variables, known, has_state) {
    globals <- globalenv()
    rm(list = setdiff(ls(globals, all.names = TRUE), ".Random.seed"), envir = globals)
    options(fresh)
    setwd(home)
    forget_plots()
    if (length(variables)) list2env(variables, globals)
    run <- if (is.null(known)) NULL else make_run(known)
    if (!is.null(run)) assign("run", run, globals)
    if (has_state) assign("state", state, globals)
    lines <- integer()
    failure <- tryCatch(
      withCallingHandlers(
        {
          for (i in seq_along(script)) {
            made <- withVisible(eval(script[i], globals))
            if (made$visible) show_value(made$value)
          }
          NULL
        },
        error = function(e) lines <<- script_lines(sys.calls()),
        warning = function(w) {
          # At the top level the call would be one of ours.
          if (is_ours(conditionCall(w)) && getOption("warn") %in% 0:1) {
            message("Warning: ", conditionMessage(w))
            invokeRestart("muffleWarning")
          }
        }
      ),
      error = function(e) e
    )
    while (sink.number() > 0L) sink()
    if (sink.number(type = "message") != 2L) sink(type = "message")
    flush(stdout())
    flush(stderr())
    if (!is.null(failure)) {
      if (!length(lines)) lines <- attr(script, "srcref")[[i]][1L]  # the stack was full
      return(failed(failure, lines))
    }
    prepare(list("value", if (!is.null(run)) lapply(run$outputs, as_result, "an output")), "an output")
  }

  state <- new.env(parent = emptyenv())

  failed <- function(e, lines = integer()) {
    if (inherits(e, "dbml_refused")) {
      return(prepare(list("refused", e$message, e$name, e$type, e$hint), "a message"))
    }
    message <- tryCatch(paste(as.character(conditionMessage(e)), collapse = "\n"), error = function(e) "")
    where <- conditionCall(e)
    where <- if (is.null(where) || is_ours(where)) NULL else readable(paste(deparse(where, nlines = 1L), collapse = ""))
    prepare(list("error", readable(message), class(e)[1L], lines, where, e$number), "a message")
  }

  readable <- function(text) {
    text <- enc2utf8(text)
    if (all(validUTF8(text))) text else iconv(text, "latin1", "UTF-8")
  }

  answer <- function(request) {
    switch(request[[1L]],
      load = prepare(list("value", load_script(request[[2L]])), "a message"),
      run = run_script(request[[2L]], request[[3L]], request[[4L]]),
      result = {
        name <- request[[2L]]
        value <- get0(name, globalenv(), inherits = FALSE)
        prepare(list("value", as_result(value, name)), name)
      },
      parameter = {
        name <- request[[2L]]
        prepare(list("value", get0(name, globalenv(), inherits = FALSE)), name)
      },
      figures = prepare(list("value", take_figures()), "a message")
    )
  }

  # quit() runs the finalizer, a crash does not: so the two are told apart.  The functions say from where it was called.
  left_from <- integer()
  leave <- function(save = "default", status = 0, runLast = TRUE) {
    left_from <<- script_lines(sys.calls())
    base::quit("no", status, runLast)
  }
  attach(list(q = leave, quit = leave), name = "dbml", warn.conflicts = FALSE)
  leaving <- new.env()
  reg.finalizer(leaving, function(x) {
    if (Sys.getpid() == own) try(say("quit", left_from), silent = TRUE)
  }, onexit = TRUE)

  options(warn = 1L, device = open_device, keep.parse.data = FALSE, menu.graphics = FALSE)
  fresh <- options()
  home <- getwd()
  forget_plots()

  # Do a few times what every call does: what it calls is then compiled before anyone waits for it.
  rehearse <- function() {
    given <- data.frame(i = 1:2, d = c(0.5, NA), s = c("a", NA))
    given$l <- list(1:2, NULL)
    counts <- function(...) writeBin(c(...), raw())
    text <- c(as.raw(CHARACTER), counts(2L, 1L, -1L), charToRaw("a"))  # as Python writes it
    number <- c(as.raw(INTEGER), counts(1L, 7L))
    frame <- c(as.raw(FRAME), counts(1L), text, number, as.raw(SLICES), counts(1L, 1L), number)
    message <- c(as.raw(LIST), counts(2L), text, as.raw(NAMED), text, as.raw(LIST), counts(2L), number, frame)
    for (turn in 1:3) {
      if (file.size(called) > 0) break
      load_script("OutputDataSet <- x")
      con <- rawConnection(message, "r+b")
      read_value(con)
      prepare(list(1L, given), "x")(con)
      close(con)
      for (request in list(list("run", list(x = given, n = 1L), NULL, FALSE), list("result", "OutputDataSet"), list("figures"))) {
        if (file.size(called) > 0) break
        answer(request)
      }
    }
    rm(list = ls(globalenv()), envir = globalenv())
  }

  say("value", as.character(getRversion()))
  rehearse()
  repeat {
    request <- hear()
    send(tryCatch(answer(request), error = failed))
  }
})
