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

;;;###autoload
(define-derived-mode bcgraph-mode prog-mode "bcgraph"
  "Major mode for .bcg files."
  (setq-local comment-start "# ")
  (setq-local indent-tabs-mode nil)
  (setq-local tab-width 2)
  (eglot-ensure))

;;;###autoload
(add-to-list 'auto-mode-alist '("\\.bcg\\'" . bcgraph-mode))

(add-to-list 'eglot-server-programs '(bcgraph-mode . ("bcgraph" "lsp")))

(provide 'bcgraph-mode)
;;; bcgraph-mode.el ends here
