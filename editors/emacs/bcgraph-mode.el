;;; bcgraph-mode.el --- Backward connections in spiking neural networks -*- lexical-binding: t; -*-

;; Put this file on the load path, and (require 'bcgraph-mode) into your init file. `M-x eglot' is started by itself.

;;; Code:

(require 'eglot)

(defvar bcgraph-mode-syntax-table
  (let ((table (make-syntax-table)))
    (modify-syntax-entry ?# "<" table)
    (modify-syntax-entry ?\n ">" table)
    (modify-syntax-entry ?_ "w" table)
    table))

;; Eglot 1.19 and newer color by what the server says; before that, this has to do.
(defconst bcgraph-words
  '("and" "backward" "bcg" "block" "branch" "concat" "else" "forward" "if" "import" "in" "network" "not" "or" "repeat"
    "sum"))

(defconst bcgraph-font-lock-keywords
  `(("\\_<\\(network\\|block\\|neuron\\|surrogate\\)[ \t]+\\([[:alpha:]_]\\w*\\)[ \t]*[({]"
     (1 font-lock-keyword-face) (2 font-lock-type-face))
    ("\\_<\\(state\\|learn\\)[ \t[]" 1 font-lock-keyword-face)
    (,(regexp-opt bcgraph-words 'symbols) . font-lock-keyword-face)
    ("\\_<\\(true\\|false\\)\\_>" . font-lock-constant-face)
    ("\\_<\\([[:alpha:]_]\\w*\\)[ \t]*=[^=]" 1 font-lock-variable-name-face)
    ("\\_<\\([[:alpha:]_]\\w*\\)[ \t]*(" 1 font-lock-function-name-face)))

;;;###autoload
(define-derived-mode bcgraph-mode prog-mode "bcgraph"
  "Major mode for .bcg files."
  (setq-local comment-start "# ")
  (setq-local font-lock-defaults '(bcgraph-font-lock-keywords))
  (setq-local indent-tabs-mode nil)
  (setq-local tab-width 2)
  (eglot-ensure))

;;;###autoload
(add-to-list 'auto-mode-alist '("\\.bcg\\'" . bcgraph-mode))

(add-to-list 'eglot-server-programs '(bcgraph-mode . ("bcgraph" "lsp")))

(provide 'bcgraph-mode)
;;; bcgraph-mode.el ends here
